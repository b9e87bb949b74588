"""What an import writes, read within bounds: it may write for ever, and a line without an end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from typing import IO, Any

MAX_BYTES = 2**24  # on standard output, on which our programs write some kilobytes
MAX_LINE = 2**20
MAX_LINES = 10_000
TAIL = 2000  # bytes of standard error that are kept
READ = 2**16
MAX_CHARACTERS = 2000  # of a sentence that is passed on
JOINING = 5.0  # seconds


def printable(text: str) -> str:
    """A sentence of other people's code as one line that is safe to log, to store and to show in a terminal."""
    return "".join(one if one.isprintable() else " " for one in text[:MAX_CHARACTERS])


class Output:
    """Reads both streams in threads of its own. What left the import behind may hold their other ends for ever."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.messages: list[dict[str, Any]] = []
        self.too_much = False
        self._tail = b""
        self._threads = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read_lines, process.stdout), (self._read_tail, process.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for what was written before the end."""
        for thread in self._threads:
            thread.join(JOINING)

    def last_words(self) -> str:
        """The last line on standard error, as an appendix."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return f": {printable(lines[-1][:300])}" if lines else ""

    def _read_lines(self, stream: IO[bytes]) -> None:
        """JSON objects, a line each. Anything else comes from what writes past our programs' own standard output."""
        read, line = 0, b""
        with stream:
            while part := os.read(stream.fileno(), READ):
                read += len(part)
                *whole, line = (line + part).split(b"\n")
                for one in whole:
                    with contextlib.suppress(ValueError, RecursionError):
                        said = json.loads(one)
                        if isinstance(said, dict) and len(self.messages) < MAX_LINES:
                            self.messages.append(said)
                if read > MAX_BYTES or len(line) > MAX_LINE:
                    self.too_much = True
                    return

    def _read_tail(self, stream: IO[bytes]) -> None:
        with stream:
            while part := os.read(stream.fileno(), READ):
                self._tail = (self._tail + part)[-TAIL:]
