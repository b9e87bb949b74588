"""One log for everything: loguru, which also receives the records of BentoML, circus and uvicorn.

A line is `[time] - [hostname:IP] | [level] | [message]` on standard output, and in `logfile.log` if a folder is set. Each
process writes its lines itself, with one `write` per line, so lines of different workers do not mix (docs/logs.md).
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from loguru import logger

from bunriwiki.settings import LogChoices
from bunriwiki.telemetry.log_file import LogFile
from bunriwiki.telemetry.log_level import LogLevel
from bunriwiki.telemetry.log_records import json_format, text_format

LOG_FILE = "logfile.log"
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


def configure(choices: LogChoices) -> LogLevel:
    """Send all logging of this process to standard output and to the log file, as `choices` say; returns its level.

    If the file cannot be opened, that is logged, and standard output is all there is: a full disk must not stop the service.
    """
    host = socket.gethostname()
    line = json_format(host, address(), choices.role) if choices.json else text_format(host, address())
    level = LogLevel(choices.level, choices.level_file)
    logger.remove()
    # diagnose would print payloads. The filter decides: a level of its own would need the sinks to be replaced at each change.
    logger.add(sys.stdout, level=0, filter=level.admits, format=line, backtrace=False, diagnose=False)
    if choices.folder is not None:
        try:
            file = LogFile(
                choices.folder / LOG_FILE, roll_days=choices.roll_days, max_bytes=choices.roll_mb * 2**20, keep=choices.keep
            )
        except OSError as error:
            logger.error("the log goes to standard output only: {}", error)
        else:
            logger.add(file.write, level=0, filter=level.admits, format=line, backtrace=False, diagnose=False)
    level.follow()
    logging.root.handlers = [_IntoLoguru()]
    logging.root.setLevel(logging.WARNING)
    for name in [*LEVELS, "uvicorn.error", "uvicorn.access"]:
        other = logging.getLogger(name)
        other.handlers.clear()
        other.propagate = True
        other.setLevel(LEVELS.get(name, logging.NOTSET))
    return level


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
