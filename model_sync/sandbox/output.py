"""Reads the output of a sandboxed program with bounded memory: it may write without end, and lines without an end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from typing import IO, Any

MAX_BYTES = 2**24  # on standard output, where our programs write some kilobytes
MAX_LINE = 2**20  # bytes
MAX_MESSAGES = 10_000
TAIL = 2000  # bytes of standard error that are kept
CHUNK = 2**16
MAX_CHARACTERS = 2000  # of a sentence that is logged, stored or shown
JOIN_SECONDS = 5.0


def printable(text: str) -> str:
    """The text as a single line that is safe to log, store and show in a terminal, of at most MAX_CHARACTERS characters."""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_CHARACTERS])


class Output:
    """Reads standard output and standard error of a process, in two threads.

    `messages` are the JSON objects that it wrote to standard output, one per line (`bunriwiki/artifacts/programs.py`).
    `exceeded` is true once it has written more than MAX_BYTES, or a line longer than MAX_LINE; nothing more is read then.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.messages: list[dict[str, Any]] = []
        self.exceeded = False
        self._tail = b""
        self._threads = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read_lines, process.stdout), (self._read_tail, process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until everything that the process wrote is read, at most JOIN_SECONDS per stream.

        A child that the process left behind could hold the other end of a stream open for ever.
        """
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def error_suffix(self) -> str:
        """The last line on standard error, as `: line`; empty if there is none."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return f": {printable(lines[-1][:300])}" if lines else ""

    def _read_lines(self, stream: IO[bytes]) -> None:
        """Lines that are no JSON object are ignored: native code may write to standard output past ProgressWriter."""
        read, line = 0, b""
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK):
                read += len(chunk)
                *complete, line = (line + chunk).split(b"\n")
                for text in complete:
                    with contextlib.suppress(ValueError, RecursionError):
                        message = json.loads(text)
                        if isinstance(message, dict) and len(self.messages) < MAX_MESSAGES:
                            self.messages.append(message)
                if read > MAX_BYTES or len(line) > MAX_LINE:
                    self.exceeded = True
                    return

    def _read_tail(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK):
                self._tail = (self._tail + chunk)[-TAIL:]
