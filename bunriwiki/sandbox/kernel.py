"""C functions and system calls that Python has no wrapper for."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """Return the result of a C function. Raises OSError if it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Call prctl(2) with all five arguments: the kernel requires the unused ones to be zero. Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return check(LIBC.prctl(option, *map(ctypes.c_ulong, padded)))
