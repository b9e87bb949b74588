"""One log for everything: loguru, which also receives the records of BentoML, circus and uvicorn.

A line is `[time] - [hostname:IP] | [level] | [message]` on standard output. Each process writes its lines itself, with one
`write` per line, so lines of different workers do not mix.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

ADDRESS = "BUNRIWIKI_HOST_ADDRESS"  # set by the parent of all workers, for them

# As BentoML sets them. Other loggers show WARNING and above.
LEVELS = {"bentoml": logging.INFO, "circus": logging.WARNING, "uvicorn": logging.WARNING}


class _IntoLoguru(logging.Handler):
    """Passes the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def configure(level: str) -> None:
    """Send all logging of this process to standard output, from `level` upwards."""
    place = f"{socket.gethostname()}:{address()}"

    def line(_: Record) -> str:
        return "[{time:YYYY-MM-DD HH:mm:ss.SSSZZ}] - [" + place + "] | [{level}] | [{message}]\n{exception}"

    logger.remove()
    logger.add(sys.stdout, level=level, format=line, backtrace=False, diagnose=False)  # diagnose would print payloads
    logging.root.handlers = [_IntoLoguru()]
    logging.root.setLevel(logging.WARNING)
    for name in [*LEVELS, "uvicorn.error", "uvicorn.access"]:
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
        other.setLevel(LEVELS.get(name, logging.NOTSET))


def address() -> str:
    """The address of this host in its network, without sending anything; the loopback address if it has no other.

    A sandboxed process cannot open a socket: it gets the address in the variable `ADDRESS`.
    """
    if known := os.environ.get(ADDRESS):
        return known
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: for a datagram socket, connecting only picks a route
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
