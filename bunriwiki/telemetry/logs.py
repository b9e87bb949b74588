"""One log for all: loguru, with BentoML's, circus' and uvicorn's loggers routed into it.

A line is `[time] - [hostname:IP] | [level] | [message]` on standard output. Each process writes for itself, one `write` per
line, so lines of different workers do not mix.
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


ADDRESS = "BUNRIWIKI_HOST_ADDRESS"  # the variable that the parent of all workers sets for them

# What BentoML would show of itself and of others; all else from WARNING upwards.
LEVELS = {"bentoml": logging.INFO, "circus": logging.WARNING, "uvicorn": logging.WARNING}


class _IntoLoguru(logging.Handler):
    """Hands a record of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def configure(level: str) -> None:
    """Take over all logging of this process, from `level` upwards."""
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
    """The address that this host shows to others, without sending anything; the loopback's where there is no other.

    A process in a sandbox cannot ask: what it is started with says it.
    """
    if known := os.environ.get(ADDRESS):
        return known
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: for a datagram socket, connecting only picks a route
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
