"""Linux capabilities, which root's power is divided into. A sandboxed program has none, or CAP_DAC_READ_SEARCH only."""

from __future__ import annotations

import ctypes
import struct

from bunriwiki.sandbox.kernel import LIBC, check, prctl

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, KILL, SETGID, SETUID = 0, 1, 2, 5, 6, 7
SETPCAP = 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_SECUREBITS, NO_ROOT = 28, 0b1111  # user 0 has no privileges, and the setting is locked
PR_CAP_AMBIENT, RAISE = 47, 2
VERSION = 0x20080522


def effective() -> int:
    """This process' effective capabilities, as bits."""
    header, data = ctypes.create_string_buffer(struct.pack("=Ii", VERSION, 0)), ctypes.create_string_buffer(24)
    check(LIBC.capget(header, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def has(*capabilities: int) -> bool:
    """Whether this process has all of them."""
    bits = effective()
    return all(bits >> capability & 1 for capability in capabilities)


def limit_bounding_set(*kept: int) -> None:
    """Ensure that no program that this process executes can gain other capabilities than `kept`.

    Without CAP_SETPCAP this does nothing; no_new_privs alone prevents gaining capabilities then.
    """
    if not has(SETPCAP):
        return
    prctl(PR_SET_SECUREBITS, NO_ROOT)
    capability = 0
    while LIBC.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        if capability not in kept:
            prctl(PR_CAPBSET_DROP, capability)
        capability += 1


def keep_only(*capabilities: int) -> None:
    """Drop all other capabilities, in this program and the one that it executes."""
    bits = sum(1 << capability for capability in capabilities)
    header = ctypes.create_string_buffer(struct.pack("=Ii", VERSION, 0))
    check(LIBC.capset(header, struct.pack("=6I", bits, bits, bits, 0, 0, 0)))
    for capability in capabilities:
        prctl(PR_CAP_AMBIENT, RAISE, capability)
