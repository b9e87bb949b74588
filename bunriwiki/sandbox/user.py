"""Switches a process to another user, irrevocably."""

from __future__ import annotations

import os
from pathlib import Path

from bunriwiki.sandbox.capabilities import CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, has
from bunriwiki.sandbox.kernel import prctl

PR_SET_KEEPCAPS = 8
# User ids that no account has: the range of systemd's DynamicUser.
FIRST, LAST = 61184, 65519


def can_change() -> bool:
    """Whether this process may switch to another user, change the owner of files to it and back, and kill its processes."""
    return has(SETUID, SETGID, CHOWN, DAC_OVERRIDE, KILL) and all(_mapped(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))


def become(user: int) -> None:
    """Switch to the user and the group with this id, without supplementary groups.

    Capabilities stay permitted: `capabilities.keep_only` drops them. Raises OSError.
    """
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _mapped(path: str) -> bool:
    """Whether this user namespace maps the whole range from FIRST to LAST."""
    ranges = [tuple(map(int, line.split())) for line in Path(path).read_text(encoding="ascii").splitlines()]
    return any(start <= FIRST and start + count > LAST for start, _, count in ranges)
