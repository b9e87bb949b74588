"""Open file descriptors. A descriptor that the parent opened bypasses every rule about opening, so the rest are closed."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from pathlib import Path

IPC_FD = "BUNRIWIKI_IPC_FD"  # the environment variable with the number of the listening socket
BACKLOG = 128


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor except 0, 1, 2 and those in `keep`, which the next program inherits."""
    kept = sorted({0, 1, 2, *keep})
    for before, after in pairwise([*kept, max(os.sysconf("SC_OPEN_MAX"), kept[-1] + 1)]):
        if before + 1 < after:
            os.closerange(before + 1, after)
    for descriptor in keep:
        os.set_inheritable(descriptor, True)


def listen(path: str) -> None:
    """Listen on a Unix socket that only this user can connect to, and put its number into the environment as IPC_FD.

    `{pid}` in `path` is replaced by the process id.
    """
    socket_file = Path(path.replace("{pid}", str(os.getpid())))
    if socket_file.is_socket():  # left by an earlier process with the same id
        socket_file.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(socket_file))
    finally:
        os.umask(mask)
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    os.environ[IPC_FD] = str(listening.detach())
