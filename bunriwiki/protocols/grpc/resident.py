"""The resident memory of this process, and what its allocator keeps of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

STATUS = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The resident memory. Takes about 10 microseconds."""
    return int(STATUS.read_bytes().split()[1]) * PAGE_BYTES


def trim() -> None:
    """Give free memory back to the system, which glibc would keep: pieces of messages lie between others."""
    ctypes.CDLL(None).malloc_trim(0)
