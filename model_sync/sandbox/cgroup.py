"""Creates a control group for each import where the sidecar may: the kernel then limits the import's memory and processes.

Groups are created below the sidecar's own group only if that is the sidecar's to divide: if it is the root of the mounted
hierarchy (in a container), or if its manager delegated it (systemd's `Delegate=yes`). Any other group belongs to the manager
that started the sidecar and may not expect groups below it. An operator may name other groups (BUNRIWIKI_IMPORT_CGROUP).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REMOVE_SECONDS = 5.0  # seconds that the kernel may take to reap killed processes
PREFIX = "bunriwiki-import-"  # of the names of groups
ABANDONED_SECONDS = 60.0  # after which a group without a process will not get its first one
CONTROLLERS = ("memory", "pids")
DELEGATED = ("user.delegate", "trusted.delegate")  # the extended attributes by which systemd marks a delegated group


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A control group: one folder in version 2, one folder per controller in version 1, none if no group could be created."""

    folders: tuple[Path, ...]

    def out_of_memory(self) -> bool:
        """Whether the kernel killed a process of the group because of the memory limit."""
        for file in ("memory.events", "memory.oom_control"):
            for folder in self.folders:
                with contextlib.suppress(OSError):
                    counts = dict(line.split() for line in (folder / file).read_text().splitlines())
                    if int(counts.get("oom_kill", 0)):
                        return True
        return False

    def remove(self) -> None:
        """Kill every process in the group, and remove it."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while (left := [folder for folder in self.folders if folder.exists()]) and time.monotonic() < deadline:
            for folder in left:
                _kill(folder)
                with contextlib.suppress(OSError):  # killed processes are not reaped yet
                    folder.rmdir()
            time.sleep(0.001)


@contextlib.contextmanager
def open_cgroup(choice: str, *, memory: int, tasks: int) -> Iterator[Cgroup]:
    """Create a group limited to `memory` bytes and `tasks` processes and threads, and remove it at the end of the `with`.

    The processes in it are killed then. The group has no folders if none can be created. `choice` is `auto`, `off`, or the
    folders of existing groups to create it in, separated by commas.
    """
    group = Cgroup(tuple(folder for parent in _parents(choice) if (folder := _create(parent, memory, tasks))))
    try:
        yield group
    finally:
        group.remove()


def _parents(choice: str) -> Sequence[Path]:
    if choice == "off":
        return []
    if choice != "auto":
        return [Path(name) for name in choice.split(",")]
    memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return divisible_groups(memberships, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def divisible_groups(memberships: str, mounts: str) -> list[Path]:
    """The groups that the sidecar may divide, from the content of /proc/self/cgroup and of /proc/self/mountinfo."""
    paths: dict[str, str] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # version 2 has the empty name
    found = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ")
        if kind == "cgroup2":
            own = paths.get("")
        elif kind == "cgroup":
            own = next((paths.get(option) for option in options.split(",") if option in CONTROLLERS), None)
        else:
            continue
        if own is None:
            continue
        if own == root:
            found.append(Path(point))
            continue
        folder = Path(point) / os.path.relpath(own, root)
        # With systemd's DelegateSubgroup= the sidecar is in a child of the group that was delegated to it.
        found += [group for group in (folder, folder.parent) if _is_delegated(group)][:1]
    return found


def _is_delegated(folder: Path) -> bool:
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _create(parent: Path, memory: int, tasks: int) -> Path | None:
    """Create a group below `parent`; None if that is impossible, or if it would limit nothing."""
    # Version 1 has no such file; in version 2 a group with processes of its own cannot enable controllers for its children.
    for controller in CONTROLLERS:
        _write(parent / "cgroup.subtree_control", f"+{controller}")
    _remove_abandoned(parent)
    folder = parent / f"{PREFIX}{uuid.uuid4().hex}"
    try:
        folder.mkdir()
    except OSError:
        return None
    limits = {
        "memory.max": memory,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "memory.limit_in_bytes": memory,
        "memory.memsw.limit_in_bytes": memory,
        "pids.max": tasks,
    }
    applied = [name for name, limit in limits.items() if _write(folder / name, str(limit))]
    if not applied and not (folder / "cgroup.kill").exists():
        folder.rmdir()
        return None
    return folder


def _remove_abandoned(parent: Path) -> None:
    """Remove the groups of sidecars that were killed.

    The kernel keeps a group that has a process; a new one has none for a moment.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                folder.rmdir()


def _write(file: Path, text: str) -> bool:
    """Write to an existing file of the kernel; False if it does not exist or rejects the value."""
    try:
        with file.open("r+", encoding="ascii") as opened:
            opened.write(text)
    except OSError:
        return False
    return True


def _kill(folder: Path) -> None:
    if _write(folder / "cgroup.kill", "1"):
        return
    _write(folder / "pids.max", "0")  # no new process is started meanwhile
    with contextlib.suppress(OSError):
        for line in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
