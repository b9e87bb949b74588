"""Capabilities: the parts of root's power. A sandboxed program has none, or only the one for reading."""

from __future__ import annotations

import ctypes
import struct

from bunriwiki.sandbox.kernel import LIBC, check, prctl

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, KILL, SETGID, SETUID = 0, 1, 2, 5, 6, 7
SETPCAP = 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_SECUREBITS, NO_ROOT = 28, 0b1111  # user 0 is as any other, and that is locked
PR_CAP_AMBIENT, RAISE = 47, 2
VERSION = 0x20080522


def effective() -> int:
    """This process' capabilities, as bits."""
    header, data = ctypes.create_string_buffer(struct.pack("=Ii", VERSION, 0)), ctypes.create_string_buffer(24)
    check(LIBC.capget(header, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def has(*capabilities: int) -> bool:
    """Whether this process has all of them."""
    mine = effective()
    return all(mine >> one & 1 for one in capabilities)


def bound(*kept: int) -> None:
    """No program that this one becomes may have any other. Where that may not be set, no_new_privs alone sees to it."""
    if not has(SETPCAP):
        return
    prctl(PR_SET_SECUREBITS, NO_ROOT)
    one = 0
    while LIBC.prctl(PR_CAPBSET_READ, one, 0, 0, 0) >= 0:
        if one not in kept:
            prctl(PR_CAPBSET_DROP, one)
        one += 1


def keep_only(*capabilities: int) -> None:
    """Give up all others, in this program and the one it becomes."""
    bits = sum(1 << one for one in capabilities)
    header = ctypes.create_string_buffer(struct.pack("=Ii", VERSION, 0))
    check(LIBC.capset(header, struct.pack("=6I", bits, bits, bits, 0, 0, 0)))
    for one in capabilities:
        prctl(PR_CAP_AMBIENT, RAISE, one)
