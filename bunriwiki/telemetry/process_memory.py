"""The memory of this process, and what its allocator keeps of it."""

from __future__ import annotations

import ctypes

import psutil

_process = psutil.Process()


def resident_memory() -> int:
    """The resident memory of this process in bytes. Takes about 12 microseconds."""
    return int(_process.memory_info().rss)


def trim() -> None:
    """Give free memory back to the system, which glibc would keep where it lies between memory in use. Takes up to 50 ms."""
    ctypes.CDLL(None).malloc_trim(0)
