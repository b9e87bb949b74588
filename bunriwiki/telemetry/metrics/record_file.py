"""A file of records: one process writes what it counts for a request as one record, others read the sums at any time.

A record is written by one call, into memory that the last record was written next to. To change each number of a histogram in
its own place costs several times as much, above all when other processes have taken the caches since the last request. The file
is mapped into the memory of its writer, so a record that was written survives the death of the process.

The log of records is short. When it is full, its sums are added to those before, and a new log begins (a checkpoint). There are
two areas of sums and two logs, of which the number of checkpoints says which count. It changes by one store, after all else was
written, so each record is counted exactly once, whenever the writer dies and whenever a reader reads. The format, in native
byte order and aligned to eight bytes:

    checkpoints   uint64
    used          uint64, bytes of the definitions
    definitions   a line of JSON for each kind of record: what each of its amounts changes (`Field`)
    sums          float64, of all fields of all definitions in order; twice
    log           records: twelve amounts (float64, NaN for none), the number of the definition (uint64, from 1; 0: no record);
                  twice
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

WORD = 8
HEADER = struct.Struct("QQ")
AMOUNTS = 12
NOTHING = math.nan  # an amount that changes nothing
RECORD = struct.Struct(f"{AMOUNTS}dQ")
RECORDS = 2048  # in a log: adding them up costs 0.2 µs for each
DEFINITIONS_BYTES = 2**17
VALUES = 2**12
LOG_BYTES = RECORDS * RECORD.size
SUMS_AT = HEADER.size + DEFINITIONS_BYTES
LOGS_AT = SUMS_AT + 2 * VALUES * WORD
SIZE = LOGS_AT + 2 * LOG_BYTES


class FullFileError(Exception):
    """The file has no room for another kind of record."""


class Field(msgspec.Struct, array_like=True, frozen=True):
    """What an amount of a record changes: the number under `key`, which it is added to.

    With `bounds` it is an observation, too: the number of observations rises in the first bucket whose upper bound is not below
    the amount, which has the key `bucket` with its bound in between.
    """

    key: str
    bucket: tuple[str, str] = ("", "")
    bounds: tuple[str, ...] = ()

    def all_keys(self) -> list[str]:
        """The keys of the sum and of the buckets."""
        before, after = self.bucket
        return [self.key, *(f"{before}{bound}{after}" for bound in self.bounds)]


Numbers: TypeAlias = npt.NDArray[np.float64]
Place = tuple[int, Numbers]  # of a field: the index of its sum, which its buckets follow, and their upper bounds
Places = list[list[Place]]  # of a definition: those that each amount changes


class RecordFile:
    """The writer's side: creates the file at `path`, whose folder must exist. Raises OSError, FileExistsError included."""

    __slots__ = ("_definitions", "_header", "_values", "at", "end", "map")

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Allocated, not only made longer: on a full disk, a store into a hole would end the process (SIGBUS).
            os.posix_fallocate(descriptor, 0, SIZE)
            self.map = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._header = memoryview(self.map)[: HEADER.size].cast("Q")
        self._definitions: list[Places] = []
        self._values = 0
        self._begin_log(0)

    def define(self, changes: Sequence[Sequence[Field]]) -> Callable[..., None]:
        """A function that writes a record: it takes at most `AMOUNTS` amounts, and `changes` has the fields that each changes.

        Amounts that are `NOTHING`, or left out, change nothing. Use these functions from one thread only. Raises FullFileError.
        """
        line = msgspec.json.encode(changes) + b"\n"
        used = self._header[1]
        places, values = _places(changes, self._values)
        if used + len(line) > DEFINITIONS_BYTES or values > VALUES:
            raise FullFileError
        self.map[HEADER.size + used : HEADER.size + used + len(line)] = line
        self._header[1] = used + len(line)  # last: a reader sees whole definitions only
        self._definitions.append(places)
        self._values = values
        return _recorder(self, len(self._definitions))

    def checkpoint(self) -> None:
        """Add up the log, and begin a new one."""
        number = self._header[0]
        before, after = self._sums(number), self._sums(number + 1)
        after[:] = before
        _add_up(after, self._definitions, self.map[_log_at(number) : self.at])
        following = _log_at(number + 1)
        self.map[following : following + LOG_BYTES] = bytes(LOG_BYTES)
        self._header[0] = number + 1  # last: until now the sums and the log before it count
        self._begin_log(number + 1)

    def _begin_log(self, number: int) -> None:
        self.at = _log_at(number)  # where the next record is written
        self.end = self.at + LOG_BYTES

    def _sums(self, number: int) -> Numbers:
        return np.frombuffer(self.map, np.float64, VALUES, _sums_at(number))


def _recorder(file: RecordFile, definition: int) -> Callable[..., None]:
    """Writes records of one definition."""
    write, mapped, size = RECORD.pack_into, memoryview(file.map), RECORD.size

    def record(  # noqa: PLR0917 - `*amounts` would double what a record costs
        a: float, b: float = NOTHING, c: float = NOTHING, d: float = NOTHING, e: float = NOTHING, f: float = NOTHING,
        g: float = NOTHING, h: float = NOTHING, i: float = NOTHING, j: float = NOTHING, k: float = NOTHING, m: float = NOTHING,
    ) -> None:  # fmt: skip
        at = file.at
        # A process can die within this call: the definition, which makes it a record, is stored after the amounts.
        write(mapped, at, a, b, c, d, e, f, g, h, i, j, k, m, definition)
        file.at = at = at + size
        if at == file.end:
            file.checkpoint()

    return record


def read_records(path: Path) -> dict[str, float]:
    """The sums of all records in a file, by key, whether its writer is alive or dead. Raises FileNotFoundError and OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size < SIZE:
            return {}  # its writer is creating it, or died doing so
        while True:
            number, _ = HEADER.unpack(os.pread(descriptor, HEADER.size, 0))
            # First how many records there are, then the records: one that is being written is left out.
            records = _records(os.pread(descriptor, LOG_BYTES, _log_at(number)))
            whole = os.pread(descriptor, SIZE, 0)
            if HEADER.unpack(os.pread(descriptor, HEADER.size, 0))[0] == number:
                return _sums(whole, number, records)
            # A checkpoint came between; the next one writes where this has read.
    finally:
        os.close(descriptor)


def _sums(whole: bytes, number: int, records: int) -> dict[str, float]:
    _, used = HEADER.unpack_from(whole)
    keys: list[str] = []
    definitions: list[Places] = []
    for line in whole[HEADER.size : HEADER.size + used].splitlines():
        of_changes, changes = _definition(line)
        definitions.append(_places(changes, len(keys))[0])
        keys += of_changes
    values = np.frombuffer(whole, np.float64, len(keys), _sums_at(number)).copy()
    begin = _log_at(number)
    _add_up(values, definitions, whole[begin : begin + records * RECORD.size])
    sums: defaultdict[str, float] = defaultdict(float)
    for key, value in zip(keys, values.tolist(), strict=True):  # a key may be in several definitions
        sums[key] += value
    return sums


@lru_cache(maxsize=2**12)
def _definition(line: bytes) -> tuple[list[str], list[list[Field]]]:
    changes = msgspec.json.decode(line, type=list[list[Field]])
    return [key for fields in changes for field in fields for key in field.all_keys()], changes


def _places(changes: Sequence[Sequence[Field]], begin: int) -> tuple[Places, int]:
    """The places of all fields from the index `begin` on, and the index after them."""
    places: Places = []
    for fields in changes:
        places.append([])
        for field in fields:
            places[-1].append((begin, np.array(field.bounds, dtype=np.float64)))
            begin += 1 + len(field.bounds)
    return places, begin


def _records(log: bytes) -> int:
    """How many records a log has."""
    numbers = memoryview(log).cast("Q")[AMOUNTS :: AMOUNTS + 1].tolist()
    return numbers.index(0) if 0 in numbers else len(numbers)


def _add_up(values: Numbers, definitions: Sequence[Places], log: bytes) -> None:
    """Add the records in `log` to `values`."""
    amounts = np.frombuffer(log, np.float64).reshape(-1, AMOUNTS + 1)
    numbers = np.frombuffer(log, np.uint64)[AMOUNTS :: AMOUNTS + 1]
    for number in np.unique(numbers).tolist():
        for places, column in zip(definitions[number - 1], amounts[numbers == number].T, strict=False):
            there = column[~np.isnan(column)]
            for at, bounds in places:
                values[at] += there.sum()
                if bounds.size:
                    values[at + 1 : at + 1 + bounds.size] += np.bincount(np.searchsorted(bounds, there), minlength=bounds.size)


def _sums_at(number: int) -> int:
    return SUMS_AT + number % 2 * VALUES * WORD


def _log_at(number: int) -> int:
    return LOGS_AT + number % 2 * LOG_BYTES
