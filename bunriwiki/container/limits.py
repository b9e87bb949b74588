"""The cores and the memory that this process may use: those of its control group, which may be less than the machine's.

Sources: the kernel's documentation of control groups, versions 1 (cgroup-v1/memory, sched-bwc) and 2 (cgroup-v2).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 2**60  # version 1 has a number of about 2**63 where there is no limit


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a control group in bytes: its limit, and what is in use and cannot be given up."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.used)


def cores(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """How many cores this process may use: those that it may run on, or fewer if its control group has a quota. At least 1."""
    quotas = [quota for folder in _groups(mount, membership, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *(math.ceil(quota) for quota in quotas)]))


def memory(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Memory | None:
    """The memory of the group with the lowest limit among the process' own and those around it; None if none has a limit."""
    found = [state for folder in _groups(mount, membership, "memory") if (state := _memory(folder)) is not None]
    return min(found, key=lambda state: state.limit, default=None)


def _groups(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The folders of the process' group and of those around it, as far as they can be seen from inside of a container."""
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 has a folder for each controller. Version 2 has one for all, and no list of controllers.
        root = mount / controller if controllers else mount
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _quota(folder: Path) -> float | None:
    """The cores that a group may use; None if it may use all."""
    match _lines(folder / "cpu.max"), _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us"):
        case [text], _, _:
            quota, period = text.split()
        case _, [quota], [period]:
            pass
        case _:
            return None
    return None if quota in {"max", "-1"} else int(quota) / int(period)


def _memory(folder: Path) -> Memory | None:
    """The memory of a group; None if it has no limit."""
    for limit_name, used_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        match _lines(folder / limit_name), _lines(folder / used_name):
            case [limit], [used] if limit != "max" and int(limit) < UNLIMITED_BYTES:
                statistics = dict(line.split() for line in _lines(folder / "memory.stat"))
                return Memory(int(limit), max(0, int(used) - int(statistics.get(cache_name, 0))))
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
