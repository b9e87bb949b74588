"""A log file that many processes write to at once, and that each of them may roll.

Guarantees, on a file system with `flock`:

- A line is written by one `write` to a file opened for appending: lines of different processes do not mix.
- A line that was written is in the log file or in a rolled one. A process that is killed loses none: nothing is buffered.
- A rolled file gets no more lines. Writers hold a shared lock on the file while they write, and then see whether the path still
  leads to it; whoever rolls it holds the exclusive lock. So it can be compressed without a lock that writers would wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bunriwiki.model_store.files import sync_folder

DAY = 86_400.0
LOCK = ".compressing.lock"
COMPRESSION = 6


class LogFile:
    """Appends lines to `path`, whose folder is created.

    The file is rolled at the first line of a new period of `roll_days` days (counted from the epoch, in UTC), and when it has
    `max_bytes` or more. A rolled file is named by its time (`logfile.20260131T120000.000000.log`), compressed in a thread, and
    deleted when there are `keep` newer ones. `clock` returns the seconds since the epoch. Raises OSError.
    """

    def __init__(
        self, path: Path, *, roll_days: float, max_bytes: int, keep: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._period = roll_days * DAY
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rolled = re.compile(re.escape(path.stem) + r"\.\d{8}T\d{6}\.\d{6}" + re.escape(path.suffix) + r"(\.gz)?")
        self._file = self._open()
        self._tidying: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Append a line, which ends with a line break. Safe to call from one thread at a time. Raises OSError."""
        data = line.encode("utf-8", "replace")
        while True:
            fcntl.flock(self._file, fcntl.LOCK_SH)
            try:
                state = self._current()
                if state is not None and not self._due(state):
                    while data:  # a second write only where the first was cut short, as by a full disk
                        data = data[os.write(self._file, data) :]
                    return
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            if state is not None:
                self._roll()
            self._reopen()

    def close(self) -> None:
        """Close the file, and wait until rolled files are compressed."""
        if self._tidying is not None:
            self._tidying.join()
        os.close(self._file)

    def tidy(self) -> None:
        """Compress the rolled files and delete the oldest. Does nothing while another process does it. Raises OSError."""
        lock = os.open(self._path.parent / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rolled = sorted(path for path in self._path.parent.iterdir() if self._rolled.fullmatch(path.name))
                for path in rolled[: -self._keep or None]:
                    path.unlink(missing_ok=True)
                for path in rolled[-self._keep :] if self._keep else []:
                    if path.suffix != ".gz":
                        _compress(path)
        finally:
            os.close(lock)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _reopen(self) -> None:
        os.close(self._file)
        self._file = self._open()

    def _current(self) -> os.stat_result | None:
        """The state of the open file; None if the path no longer leads to it."""
        state = os.fstat(self._file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return None
        return state if (there.st_ino, there.st_dev) == (state.st_ino, state.st_dev) else None

    def _due(self, state: os.stat_result) -> bool:
        if not state.st_size:
            return False
        return state.st_size >= self._max_bytes or state.st_mtime // self._period < self._clock() // self._period

    def _roll(self) -> None:
        """Rename the file, unless another process was faster, and have the rolled files tidied."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            state = self._current()
            if state is None or not self._due(state):
                return
            now = self._clock()
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}"
            rolled = self._path.with_name(f"{self._path.stem}.{stamp}{self._path.suffix}")
            if rolled.exists() or rolled.with_name(rolled.name + ".gz").exists():
                return  # in the same microsecond; the file is tried again
            self._path.rename(rolled)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        if self._tidying is None or not self._tidying.is_alive():
            self._tidying = threading.Thread(target=self._tidy_in_thread, name="log files", daemon=True)
            self._tidying.start()

    def _tidy_in_thread(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the next roll tries again
            self.tidy()


def _compress(path: Path) -> None:
    """Replace a file by a compressed one; a crash at any moment leaves one of them complete."""
    beside = path.with_name(f".{path.name}.gz")
    with path.open("rb") as plain, beside.open("wb") as stream:
        with gzip.GzipFile(filename=path.name, mode="wb", compresslevel=COMPRESSION, fileobj=stream) as compressed:
            shutil.copyfileobj(plain, compressed, 2**20)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path.with_name(f"{path.name}.gz"))
    sync_folder(path.parent)
    path.unlink()
