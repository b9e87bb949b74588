"""Users for imports: each has one of its own while it runs, so that it owns nothing but what it makes."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator

import psutil

from bunriwiki.sandbox.user import FIRST, LAST, can_change

TRIES = 100
ENDING = 5.0  # seconds


@contextlib.contextmanager
def lend_user(choice: str) -> Iterator[int | None]:
    """The number of a user that nobody else has within the `with`; None where the sidecar may not change users, or is not to.

    `choice` is `auto` or `off`. A user is held by an abstract Unix socket of its name: the kernel knows each name once,
    whichever process asks, and forgets it when the process ends.
    """
    if choice == "off" or not can_change():
        yield None
        return
    for _ in range(TRIES):
        user = FIRST + secrets.randbelow(LAST - FIRST + 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
            try:
                name.bind(f"\0bunriwiki-import-user-{user}")
            except OSError:
                continue
            if not _processes_of(user):  # systemd lends from the same range
                try:
                    yield user
                finally:
                    _end_all_of(user)
                return
    raise OSError(f"no user from {FIRST} to {LAST} is free")


def _processes_of(user: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user:
                found.append(process)
    return found


def _end_all_of(user: int) -> None:
    """Nothing is left but by a kernel without the filter that keeps an import from starting processes."""
    deadline = time.monotonic() + ENDING
    while (left := _processes_of(user)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)
