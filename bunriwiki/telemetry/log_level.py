"""The lowest level that is logged, which an operator can change while all processes run.

`python -m model_sync log-level LEVEL` writes the level to a file of the model store. Every process of the service and of the
sidecar looks at it once a second.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from bunriwiki.settings import LOG_LEVELS

if TYPE_CHECKING:
    from loguru import Record

EVERY = 1.0  # seconds between two looks at the file


class LogLevel:
    """The level of this process: that of the setting (`usual`), or else that in the file `path`."""

    def __init__(self, usual: str, path: Path) -> None:
        self._usual = usual
        self._path = path
        self._read: str | None = None  # what was read last
        self.name = usual
        self._number = logger.level(usual).no
        self._ended = threading.Event()

    def admits(self, record: Record) -> bool:
        """A filter of loguru: whether a record is logged."""
        return record["level"].no >= self._number

    def look(self) -> None:
        """Take over what the file says. A file with anything but a level counts as if it were missing, and is logged."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as stream:
                read = stream.read(100).strip()
        except OSError:
            read = ""
        if read == self._read:
            return
        self._read = read
        if read and read not in LOG_LEVELS:
            logger.warning("{} has no log level: it must be one of {}", self._path, ", ".join(LOG_LEVELS))
        name = read if read in LOG_LEVELS else self._usual
        if name != self.name:
            self.name, self._number = name, logger.level(name).no
            logger.log(name, "the log level is now {}", name)

    def follow(self) -> None:
        """Look at the file now, and then in a thread until `stop`."""
        self.look()
        threading.Thread(target=self._follow, name="log level", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()
