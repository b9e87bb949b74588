"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """The result of a C function. Raises OSError when it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2), with all five arguments: the kernel wants the unused ones to be zero."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return check(LIBC.prctl(option, *map(ctypes.c_ulong, padded)))
