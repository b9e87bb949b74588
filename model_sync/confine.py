"""Give up what other people's code must not have, then become another program.

python -m model_sync.confine '{"memory": BYTES, "writable": [...], "readable": [...]}' COMMAND...

Low priority for the cores and the disk; a limit for memory; death when the parent dies; and where the kernel has Landlock
(Linux 5.13, its network rules 6.7): writing only below `writable`, reading only the system's programs and libraries and what is
`readable`, no TCP, no signals to other processes. What Landlock does not close: UDP, and Unix sockets that lie where anybody
may connect. Where the kernel has none, the limits still hold, and the environment, which the parent chose, has no secrets.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

import landlockpy
import psutil
from landlockpy import AccessFS, Ruleset, Scope

READ = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt",
    "/nix",
    "/sys",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
# A process' environment lies in /proc, too: not all of it.
PROC = tuple(f"/proc/{name}" for name in ("self", "cpuinfo", "meminfo", "stat", "sys", "filesystems", "mounts", "version"))
NOT_FOUND = 126  # the exit code where the command cannot be run
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
PR_SET_PDEATHSIG = 1


def confine(memory: int, writable: list[Path], readable: list[Path]) -> None:
    """Confine this process, for good. `memory` is in bytes, and counts what it asks for, not what files it maps."""
    os.nice(19)
    with contextlib.suppress(psutil.Error, OSError):  # a kernel without it
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if landlockpy.supported():
        _close_the_files(writable, readable)


def _close_the_files(writable: list[Path], readable: list[Path]) -> None:
    with Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET) as ruleset:
        for path in {path.resolve() for path in (*map(Path, (*SYSTEM, *PROC)), *readable)}:
            with contextlib.suppress(OSError):  # one that is not there, or cannot be opened, needs no rule
                ruleset.allow_path(path, READ if path.is_dir() else AccessFS.READ_FILE | AccessFS.EXECUTE)
        ruleset.allow_path(Path.cwd(), AccessFS.READ_DIR)  # Python looks there for what it imports; it may not read all of it
        for path in writable:
            ruleset.allow_path(path, ruleset.handled_fs)
        for device in DEVICES:
            ruleset.allow_path(device, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
        ruleset.restrict()


def main() -> None:
    limits = json.loads(sys.argv[1])
    command = sys.argv[2:]
    confine(limits["memory"], *([Path(path) for path in limits[name]] for name in ("writable", "readable")))
    try:
        os.execv(command[0], command)  # noqa: S606 (the command is the parent's)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND)


if __name__ == "__main__":
    main()
