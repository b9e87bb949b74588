"""A control group for one import, where one may be made: the kernel then holds its memory and its processes.

A group is made below the sidecar's own only where that is the sidecar's to divide: at the top of what is mounted (a container),
or where its manager says so (systemd's `Delegate=yes`). Elsewhere the group belongs to whoever started the sidecar, who may not
expect processes in groups below it. An operator may name other groups (BUNRIWIKI_IMPORT_CGROUP).
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

REMOVING = 5.0  # seconds that the kernel may take to reap what was killed
HELD = ("memory", "pids")  # the controllers that are of use here
DELEGATED = ("user.delegate", "trusted.delegate")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """`folders` in the hierarchies where one could be made: one in version 2, one per controller in version 1."""

    folders: tuple[Path, ...]

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended something in it because of its memory."""
        for file in ("memory.events", "memory.oom_control"):
            for folder in self.folders:
                with contextlib.suppress(OSError):
                    counts = dict(line.split() for line in (folder / file).read_text().splitlines())
                    if int(counts.get("oom_kill", 0)):
                        return True
        return False

    def end(self) -> None:
        """Kill whatever is in it, and remove it."""
        deadline = time.monotonic() + REMOVING
        while (left := [folder for folder in self.folders if folder.exists()]) and time.monotonic() < deadline:
            for folder in left:
                _kill(folder)
                with contextlib.suppress(OSError):  # the kernel is still at it
                    folder.rmdir()
            time.sleep(0.001)


@contextlib.contextmanager
def open_cgroup(choice: str, *, memory: int, tasks: int) -> Iterator[Cgroup]:
    """A group for what is started within the `with`; without folders where none can be made. What is in it ends with it.

    `choice` is `auto`, `off`, or folders of existing groups, separated by commas.
    """
    group = Cgroup(tuple(made for parent in _parents(choice) if (made := _make(parent, memory, tasks))))
    try:
        yield group
    finally:
        group.end()


def _parents(choice: str) -> Sequence[Path]:
    if choice == "off":
        return []
    if choice != "auto":
        return [Path(name) for name in choice.split(",")]
    memberships = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return own_groups(memberships, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def own_groups(memberships: str, mounts: str) -> list[Path]:
    """The groups that the sidecar may divide, of what /proc/self/cgroup and /proc/self/mountinfo say."""
    paths: dict[str, str] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # version 2 has no controllers: the empty name
    found = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ")
        if kind == "cgroup2":
            own = paths.get("")
        elif kind == "cgroup":
            own = next((paths.get(one) for one in options.split(",") if one in HELD), None)
        else:
            continue
        if own is None:
            continue
        if own == root:
            found.append(Path(point))
            continue
        folder = Path(point) / os.path.relpath(own, root)
        # With systemd's DelegateSubgroup= the sidecar is one below the group that was handed to it.
        found += [one for one in (folder, folder.parent) if _is_delegated(one)][:1]
    return found


def _is_delegated(folder: Path) -> bool:
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _make(parent: Path, memory: int, tasks: int) -> Path | None:
    """A group below `parent`; None where none can be made, or where it would hold nothing."""
    # Version 1 has no such file; in version 2 a group that has processes of its own cannot share out its controllers.
    for controller in HELD:
        _write(parent / "cgroup.subtree_control", f"+{controller}")
    folder = parent / f"bunriwiki-import-{uuid.uuid4().hex}"
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
    held = [name for name, limit in limits.items() if _write(folder / name, str(limit))]
    if not held and not (folder / "cgroup.kill").exists():
        folder.rmdir()
        return None
    return folder


def _write(file: Path, text: str) -> bool:
    """False where there is no such file, or it cannot be set."""
    try:
        with file.open("r+", encoding="ascii") as opened:
            opened.write(text)
    except OSError:
        return False
    return True


def _kill(folder: Path) -> None:
    if _write(folder / "cgroup.kill", "1"):
        return
    _write(folder / "pids.max", "0")  # nothing new is started meanwhile
    with contextlib.suppress(OSError):
        for line in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
