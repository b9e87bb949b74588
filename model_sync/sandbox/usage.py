"""What an import uses, as its parent can measure it.

The limits of `setrlimit` do not count shared memory, children, or many small files. A control group counts the first two, where
one can be made (`cgroup.py`). This counts everything, everywhere, but only every so often: what grows quickly may be over its
limit for a moment.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from model_sync.sandbox.handover import DEPTH, OPEN_FOLDER

DISK_EVERY = 0.25  # seconds at least between two walks through the folder
DISK_SHARE = 20  # a walk is made when the time since the last is this many times as long as that took
COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
INODES = 1000  # that have to stay free


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Bytes of memory; processes and threads; bytes and files on disk; and bytes that have to stay free there."""

    memory: int
    tasks: int
    disk: int
    files: int
    reserve: int


class TooMuchError(Exception):
    """The import uses more than it may."""


class ScarceError(Exception):
    """The disk is almost full, whoever filled it."""


class Meter:
    """Measures the process `pid`, its children, and the folder that they write to."""

    def __init__(self, pid: int, folder: Path, ceilings: Ceilings) -> None:
        self._pid = pid
        self._folder = folder
        self._ceilings = ceilings
        self._next_walk = 0.0

    def check(self) -> None:
        """Raises TooMuchError, ScarceError. SyncRequests at the folder only when it is time to."""
        memory, tasks = usage_of(self._pid)
        if memory > self._ceilings.memory:
            raise TooMuchError(f"the import took more than {self._ceilings.memory >> 20} MB of memory")
        if tasks > self._ceilings.tasks:
            raise TooMuchError(f"the import started more than {self._ceilings.tasks} threads and processes")
        space = os.statvfs(self._folder)
        if space.f_bavail * space.f_frsize < self._ceilings.reserve or 0 < space.f_files > space.f_favail < INODES:
            raise ScarceError(f"less than {self._ceilings.reserve >> 20} MB are free on the disk (BUNRIWIKI_IMPORT_RESERVE_MB)")
        started = time.monotonic()
        if started >= self._next_walk:
            self.check_disk()
            took = time.monotonic() - started
            self._next_walk = started + max(DISK_EVERY, DISK_SHARE * took)

    def check_disk(self) -> None:
        """Raises TooMuchError. Counts files that are open and have no name any more, too."""
        size = files = 0
        for found in chain(written(self._folder), deleted(self._pid)):
            size, files = size + 512 * found.st_blocks, files + 1
            if size > self._ceilings.disk:
                raise TooMuchError(f"the import wrote more than {self._ceilings.disk >> 20} MB")
            if files > self._ceilings.files:
                raise TooMuchError(f"the import wrote more than {self._ceilings.files} files")


def usage_of(pid: int) -> tuple[int, int]:
    """Bytes of memory, and processes and threads, of a process and its children; nothing of one that has ended."""
    memory = tasks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith(COUNTED):
                    memory += 1024 * int(line.split()[1])
                elif line.startswith("Threads:"):
                    tasks += int(line.split()[1])
    return memory, tasks


def family(pid: int) -> list[int]:
    """A process, its children and theirs. A kernel may not say who they are: only where the filter is missing there are any."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def written(folder: Path) -> Iterator[os.stat_result]:
    """The files and folders below `folder`, each once whatever number of names it has. Raises TooMuchError for a deep nest."""
    top = os.open(folder, OPEN_FOLDER)
    try:
        yield from _below(top, 0, set())
    finally:
        os.close(top)


def _below(at: int, depth: int, seen: set[int]) -> Iterator[os.stat_result]:
    if depth > DEPTH:
        raise TooMuchError(f"the import made folders that are more than {DEPTH} deep")
    with os.scandir(at) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
                below = _open(entry.name, at) if stat.S_ISDIR(found.st_mode) else None
            except OSError:  # it is gone again
                continue
            if found.st_ino not in seen:
                seen.add(found.st_ino)
                yield found
            if below is not None:
                try:
                    yield from _below(below, depth + 1, seen)
                finally:
                    os.close(below)


def _open(name: str, at: int) -> int:
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=at)
    except PermissionError:  # made so that nobody may look into it
        os.chmod(name, stat.S_IRWXU, dir_fd=at)
        return os.open(name, OPEN_FOLDER, dir_fd=at)


def deleted(pid: int) -> Iterator[os.stat_result]:
    """The files that a process and its children hold open and that have no name any more."""
    for one in family(pid):
        with contextlib.suppress(OSError):
            for opened in Path(f"/proc/{one}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found = opened.stat()
                    if not found.st_nlink:
                        yield found
