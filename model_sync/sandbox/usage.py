"""Measures what a sandboxed program uses, from outside: memory, processes and threads, bytes and files on disk.

`setrlimit` does not count shared memory, children, or many small files. A control group counts the first two, where one can be
created (`cgroup.py`). These measurements count everything on every machine, but only at intervals: usage that grows quickly may
exceed its limit for a moment.
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

from model_sync.sandbox.handover import MAX_DEPTH, OPEN_FOLDER

MIN_WALK_INTERVAL = 0.25  # seconds between two walks through the folder
WALK_INTERVAL_RATIO = 20  # the interval is at least this many times as long as the last walk took
MEMORY_FIELDS = ("RssAnon:", "RssShmem:", "VmSwap:")  # of /proc/<pid>/status
MIN_FREE_INODES = 1000


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What a program may use.

    `memory` in bytes; `tasks`, processes and threads; `disk`, bytes, and `files`, number, of what it writes; `reserve`, bytes
    that must stay free on that disk.
    """

    memory: int
    tasks: int
    disk: int
    files: int
    reserve: int


class LimitExceededError(Exception):
    """The program uses more than it may. The message says of what."""


class DiskFullError(Exception):
    """The disk is almost full, whoever filled it."""


class UsageMeter:
    """Compares the usage of the process `pid`, its descendants, and the folder that they write to with the limits."""

    def __init__(self, pid: int, folder: Path, limits: UsageLimits) -> None:
        self._pid = pid
        self._folder = folder
        self._limits = limits
        self._next_walk = 0.0

    def check(self) -> None:
        """Raises LimitExceededError, DiskFullError. Walks through the folder only at intervals."""
        memory, tasks = usage_of(self._pid)
        if memory > self._limits.memory:
            raise LimitExceededError(f"the import used more than {self._limits.memory >> 20} MB of memory")
        if tasks > self._limits.tasks:
            raise LimitExceededError(f"the import started more than {self._limits.tasks} threads and processes")
        space = os.statvfs(self._folder)
        if space.f_bavail * space.f_frsize < self._limits.reserve or 0 < space.f_files > space.f_favail < MIN_FREE_INODES:
            raise DiskFullError(f"less than {self._limits.reserve >> 20} MB are free on the disk (BUNRIWIKI_IMPORT_RESERVE_MB)")
        started = time.monotonic()
        if started >= self._next_walk:
            self.check_disk()
            took = time.monotonic() - started
            self._next_walk = started + max(MIN_WALK_INTERVAL, WALK_INTERVAL_RATIO * took)

    def check_disk(self) -> None:
        """Raises LimitExceededError. Also counts files that are open and were removed."""
        size = files = 0
        for found in chain(files_below(self._folder), removed_open_files(self._pid)):
            size, files = size + 512 * found.st_blocks, files + 1
            if size > self._limits.disk:
                raise LimitExceededError(f"the import wrote more than {self._limits.disk >> 20} MB")
            if files > self._limits.files:
                raise LimitExceededError(f"the import wrote more than {self._limits.files} files")


def usage_of(pid: int) -> tuple[int, int]:
    """The memory in bytes, and the number of processes and threads, of a process and its descendants; 0 if it has ended."""
    memory = tasks = 0
    for process in process_tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith(MEMORY_FIELDS):
                    memory += 1024 * int(line.split()[1])
                elif line.startswith("Threads:"):
                    tasks += int(line.split()[1])
    return memory, tasks


def process_tree(pid: int) -> list[int]:
    """The ids of a process and its descendants, parents first.

    Only the process itself on a kernel without /proc/<pid>/task/<tid>/children. There are descendants only on a kernel without
    the seccomp filter.
    """
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def files_below(folder: Path) -> Iterator[os.stat_result]:
    """The files and folders below `folder`, each once however many names it has.

    Raises LimitExceededError if folders are nested more than MAX_DEPTH deep.
    """
    top = os.open(folder, OPEN_FOLDER)
    try:
        yield from _below(top, 0, set())
    finally:
        os.close(top)


def _below(at: int, depth: int, seen: set[int]) -> Iterator[os.stat_result]:
    if depth > MAX_DEPTH:
        raise LimitExceededError(f"the import created folders that are nested more than {MAX_DEPTH} deep")
    with os.scandir(at) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
                below = _open(entry.name, at) if stat.S_ISDIR(found.st_mode) else None
            except OSError:  # removed meanwhile
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
    except PermissionError:  # the import created it without read permission
        os.chmod(name, stat.S_IRWXU, dir_fd=at)
        return os.open(name, OPEN_FOLDER, dir_fd=at)


def removed_open_files(pid: int) -> Iterator[os.stat_result]:
    """The files that a process and its descendants hold open and that no name refers to any more."""
    for process in process_tree(pid):
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found = descriptor.stat()
                    if not found.st_nlink:
                        yield found
