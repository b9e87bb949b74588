"""Hand a folder to the user that an import runs as, and take back what it made there, whatever that is.

Nothing of the import runs at either time. No link is followed: every step goes from an open folder to a name in it.
"""

from __future__ import annotations

import os
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path

DEPTH = 32  # folders within folders; what lies deeper is moved up, for removing a folder takes a call within a call for each
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(folder: Path, user: int) -> None:
    """`folder` and what is in it belong to `user`."""
    _change(folder, user, user)


def take_back(folder: Path) -> None:
    """`folder` and what is in it belong to this process' user, who may enter and empty every folder of it."""
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
    """The open folder at the top, who is to own what is below, and what was moved up into it and is still to be seen."""

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
        if depth < DEPTH:
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
