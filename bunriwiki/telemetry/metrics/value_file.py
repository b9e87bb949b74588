"""A file of numbers, each under a key: one process writes, others read at any time, also after the writer has died.

The writer maps the file into its memory, so a number is written by a single store of eight bytes, without a system call. A
number that was written survives the death of the process. The format, in little endian and aligned to eight bytes:

    used     uint64, the number of bytes in use
    entry    length of the key (uint64), key (UTF-8, padded with zeros), value (float64)
    entry    ...
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

CAPACITY = 2**16  # of a new file; doubled when it is full
WORD = 8
LENGTH = struct.Struct("<Q")
VALUE = struct.Struct("<d")


class BrokenValuesError(Exception):
    """The file has another format, or is too large."""


class Cell(NamedTuple):
    """The place of one number in a file: `words[at]`. To assign to it writes to the file."""

    words: memoryview[float]
    at: int


class ValueFile:
    """The writer's side: creates the file at `path`, whose folder must exist. Raises OSError, FileExistsError included."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._cells: dict[str, Cell] = {}
        self._used = WORD
        self._grow(CAPACITY)
        self._integers[0] = self._used

    def cell(self, key: str) -> Cell:
        """The number under `key`, at first 0. Raises OSError if the disk is full."""
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = self._append(key.encode())
        return found

    def _append(self, key: bytes) -> Cell:
        padded = key.ljust(-(-len(key) // WORD) * WORD, b"\0")
        end = self._used + WORD + len(padded) + WORD
        while end > self._capacity:
            self._grow(2 * self._capacity)
        self._map[self._used : end] = LENGTH.pack(len(key)) + padded + VALUE.pack(0.0)
        self._used = end
        self._integers[0] = end  # last: a reader sees whole entries only
        return Cell(self._words, end // WORD - 1)

    def _grow(self, capacity: int) -> None:
        # Allocated, not only made longer: on a full disk, a store into a hole would end the process (SIGBUS).
        os.posix_fallocate(self._descriptor, 0, capacity)
        # Cells of an earlier mapping stay valid: all mappings share the pages of the file.
        self._map = mmap.mmap(self._descriptor, capacity)
        self._words = memoryview(self._map).cast("d")
        self._integers = memoryview(self._map).cast("Q")
        self._capacity = capacity


def read_values(path: Path, max_bytes: int) -> dict[str, float]:
    """The numbers in a file, by their keys. A writer may have damaged its file: no link is followed and nothing blocks.

    Raises BrokenValuesError, FileNotFoundError and other OSErrors.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
            raise BrokenValuesError(f"{path} is not a file, or has more than {max_bytes} bytes")
        start = stream.read(WORD)
        if len(start) < WORD:
            return {}  # its writer is creating it, or died doing so
        (used,) = LENGTH.unpack(start)
        data = start + stream.read(max(0, min(used, found.st_size) - WORD))
    if used and len(data) != used:
        raise BrokenValuesError(f"{path} claims to use {used} bytes, of {len(data)}")
    return dict(_entries(path, data))


def _entries(path: Path, data: bytes) -> list[tuple[str, float]]:
    entries = []
    place = WORD
    while place < len(data):
        try:
            (length,) = LENGTH.unpack_from(data, place)
            value_at = place + WORD + -(-length // WORD) * WORD
            key = data[place + WORD : place + WORD + length].decode()
            entries.append((key, VALUE.unpack_from(data, value_at)[0]))
        except (struct.error, UnicodeDecodeError) as error:
            raise BrokenValuesError(f"{path} is damaged at byte {place}: {error}") from None
        place = value_at + WORD
    return entries
