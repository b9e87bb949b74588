"""Become another user for good."""

from __future__ import annotations

import os
from pathlib import Path

from bunriwiki.sandbox.capabilities import CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, has
from bunriwiki.sandbox.kernel import prctl

PR_SET_KEEPCAPS = 8
# Users that nobody has: the range of systemd's DynamicUser.
FIRST, LAST = 61184, 65519


def can_change() -> bool:
    """Whether this process may become another user, hand files over to it and take them back, and end what runs as it."""
    return has(SETUID, SETGID, CHOWN, DAC_OVERRIDE, KILL) and all(_mapped(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))


def become(user: int) -> None:
    """The user and its group, and no other group. Capabilities are kept, for `capabilities.keep_only`."""
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _mapped(path: str) -> bool:
    """Whether the range exists in this user namespace."""
    ranges = [tuple(map(int, line.split())) for line in Path(path).read_text(encoding="ascii").splitlines()]
    return any(start <= FIRST and start + count > LAST for start, _, count in ranges)
