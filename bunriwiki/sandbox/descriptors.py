"""Open file descriptors: what was open in the parent is a way past every rule about opening."""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from pathlib import Path

IPC_FD = "BUNRIWIKI_HOP_FD"
BACKLOG = 128


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor but 0, 1, 2 and those in `keep`, which the next program inherits."""
    kept = sorted({0, 1, 2, *keep})
    for before, after in pairwise([*kept, max(os.sysconf("SC_OPEN_MAX"), kept[-1] + 1)]):
        if before + 1 < after:
            os.closerange(before + 1, after)
    for one in keep:
        os.set_inheritable(one, True)


def listen(path: str) -> None:
    """Listen on a Unix socket for this user only; the next program finds its number in the environment."""
    place = Path(path.replace("{pid}", str(os.getpid())))
    if place.is_socket():  # of a process that had this number before
        place.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(place))
    finally:
        os.umask(mask)
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    os.environ[IPC_FD] = str(listening.detach())
