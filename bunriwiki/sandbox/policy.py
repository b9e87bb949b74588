"""The policy of a sandbox: what a sandboxed program may use. The launcher receives it as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Policy:
    """A program may use what is listed here and the system's programs and libraries, nothing else. A limit of 0 is no limit.

    readable: files and folders that may be read and executed.
    writable: folders below which files may be read, written, created and removed.
    devices: devices, or folders with devices, that may be used besides `/dev/null` and the like, for example GPUs.
    memory: bytes of private memory (RLIMIT_DATA): allocated memory counts, mapped files do not.
    file_size: bytes that a single file may grow to (RLIMIT_FSIZE).
    tasks: processes and threads of the user (RLIMIT_NPROC); useful only with a `user` of its own.
    open_files: file descriptors (RLIMIT_NOFILE); this also bounds the kernel memory of pipes and socket pairs.
    low_priority: use the CPU and the disk only when no other process needs them.
    user: the user and group id to switch to; None keeps the present ones.
    cgroups: folders of control groups to enter before any right is dropped.
    keep: file descriptors that stay open besides 0, 1 and 2.
    listen: path of a Unix socket to listen on, with `{pid}` replaced by the process id; its number is in BUNRIWIKI_IPC_FD.
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
        """The policy in the form that the launcher reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Raises TypeError if a field is unknown."""
        fields: dict[str, Any] = json.loads(text)
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return cls(**given)


def interpreter_folders(python: Path) -> list[Path]:
    """What an interpreter has to read.

    That is its virtual environment, the installation that the environment was created from, and the folders that the
    environment's `.pth` files add to its path.
    """
    environment = python.absolute().parent.parent
    files = environment.glob("lib/python3*/site-packages/*.pth")
    added = [Path(line) for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("/")]
    return [environment, python.resolve().parent.parent, *added]
