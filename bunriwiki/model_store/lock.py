"""One writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bunriwiki.model_store.heartbeats import HOST


class StoreLockedError(Exception):
    """Another process holds the lock. The message says which."""


@contextmanager
def writer_lock(path: Path, who: str) -> Iterator[None]:
    """Hold the writer's lock, under the name `who`. The kernel releases it when the process ends, however it ends.

    Raises StoreLockedError at once if another process holds it.
    """
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise StoreLockedError(f"{path.parent} is being written to by {_describe(stream.read())}") from None
        stream.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        stream.write(json.dumps({"who": who, "host": HOST, "pid": os.getpid(), "since": since}))
        stream.flush()
        yield


def holder(path: Path) -> str | None:
    """A description of the process that holds the lock at `path`; None if no process does. Raises OSError."""
    try:
        stream = path.open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released at once, with the file
        except BlockingIOError:
            return _describe(stream.read())
    return None


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"{holder['who']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, KeyError):
        return "another process"
