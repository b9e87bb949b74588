"""Changes the owner of an import's folder to the import's user before it runs, and back to the sidecar's after it ended.

No process of the import runs at either time. The import may have left anything in the folder, so no link is followed: each step
goes from an open folder to a name in it.
"""

from __future__ import annotations

import os
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

MAX_DEPTH = 32  # of nested folders; deeper ones are moved up, because removing nested folders takes a recursive call for each
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(folder: Path, user: int) -> None:
    """Make `user` and its group the owner of `folder` and of everything in it. Raises OSError."""
    _change(folder, user, user)


def take_back(folder: Path) -> None:
    """Make this process' user the owner of `folder` and of everything in it.

    The owner may enter and empty every folder afterwards, and folders are nested at most MAX_DEPTH deep. Raises OSError.
    """
    _change(folder, os.geteuid(), os.getegid())


def _change(folder: Path, user: int, group: int) -> None:
    top = os.open(folder, OPEN_FOLDER)
    try:
        if os.fstat(top).st_uid != user:
            os.fchown(top, user, group)
        moved: list[str] = []
        _change_below(_Tree(top, user, group, moved), top, 0)
        while moved:
            _enter(_Tree(top, user, group, moved), top, moved.pop(), 1)
    finally:
        os.close(top)


@dataclass(frozen=True, slots=True)
class _Tree:
    """The open top folder, the new owner, and the names in the top folder of folders that were moved up and not yet visited."""

    top: int
    user: int
    group: int
    moved: list[str]


def _change_below(tree: _Tree, at: int, depth: int) -> None:
    with os.scandir(at) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if found.st_uid != tree.user:
            os.chown(name, tree.user, tree.group, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            continue
        if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(name, stat.S_IMODE(found.st_mode) | stat.S_IRWXU, dir_fd=at)
        if depth < MAX_DEPTH:
            _enter(tree, at, name, depth + 1)
        else:
            tree.moved.append(f".deep-{uuid.uuid4().hex}")
            os.rename(name, tree.moved[-1], src_dir_fd=at, dst_dir_fd=tree.top)


def _enter(tree: _Tree, at: int, name: str, depth: int) -> None:
    below = os.open(name, OPEN_FOLDER, dir_fd=at)
    try:
        _change_below(tree, below, depth)
    finally:
        os.close(below)
