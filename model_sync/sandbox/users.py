"""Reserves an unused user id for each import, so that a sandboxed program owns no files but those that it creates."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator

import psutil

from bunriwiki.sandbox.user import FIRST, LAST, can_change

TRIES = 100
KILL_SECONDS = 5.0  # seconds that killed processes may take to end


@contextlib.contextmanager
def reserve_user(choice: str) -> Iterator[int | None]:
    """Reserve a user id that no other process uses within the `with`, and kill what still runs as that user at its end.

    None if the sidecar may not change users, or if `choice` is `off` (the other choice is `auto`). The reservation is an
    abstract Unix socket named after the id: such a name is unique per kernel, whichever process binds it, and is freed when the
    process ends. Raises OSError if no id is free.
    """
    if choice == "off" or not can_change():
        yield None
        return
    for _ in range(TRIES):
        user = FIRST + secrets.randbelow(LAST - FIRST + 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reservation:
            try:
                reservation.bind(f"\0bunriwiki-import-user-{user}")
            except OSError:
                continue
            if not _processes_of(user):  # systemd assigns ids from the same range
                try:
                    yield user
                finally:
                    _kill_processes_of(user)
                return
    raise OSError(f"no user id from {FIRST} to {LAST} is free")


def _processes_of(user: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill_processes_of(user: int) -> None:
    """There are none unless the kernel lacks the filter that prevents an import from starting processes."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := _processes_of(user)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)
