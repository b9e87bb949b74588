"""What a sandboxed program may use. Handed to the launcher as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Policy:
    """A program may use what is listed here, the system's programs and libraries, and nothing else. A limit of 0 is no limit.

    readable: files and folders that may be read and executed.
    writable: folders below which files may be read, written, made and removed.
    devices: devices, or folders with devices, that may be used beside `/dev/null` and the like: GPUs.
    memory: bytes of private memory (RLIMIT_DATA), which counts what is asked for, not what files are mapped.
    file_size: bytes that a file may grow to (RLIMIT_FSIZE).
    tasks: processes and threads of the user (RLIMIT_NPROC), so of use with a `user` of its own only.
    open_files: file descriptors (RLIMIT_NOFILE); what pipes and pairs of sockets hold is in no other count.
    low_priority: run on the cores and the disk when nobody else wants to.
    user: the user and group to become; None: no change.
    cgroups: folders of control groups to enter before any right is given up.
    keep: file descriptors that stay open besides 0, 1 and 2.
    listen: path of a Unix socket to listen on, `{pid}` in it being the process' id; its number is in BUNRIWIKI_HOP_FD.
    """

    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    memory: int = 0
    file_size: int = 0
    tasks: int = 0
    open_files: int = 0
    low_priority: bool = False
    user: int | None = None
    cgroups: tuple[str, ...] = ()
    keep: tuple[int, ...] = ()
    listen: str | None = None

    def to_json(self) -> str:
        """As the launcher takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Raises TypeError where a field is unknown."""
        fields: dict[str, Any] = json.loads(text)
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return cls(**given)
