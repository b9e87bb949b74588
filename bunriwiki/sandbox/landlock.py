"""The allow-list of files: Landlock (Linux 5.13; network rules 6.7, signals and abstract sockets 6.12).

Landlock mediates opening, making, linking, renaming and removing. It does not mediate `chmod`, `chown`, `utime`, `setxattr` and
connecting to a Unix socket by its path: those are for the seccomp filter (`rules.py`).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import landlockpy
from landlockpy import AccessFS, Ruleset, Scope

from bunriwiki.sandbox.policy import Policy

READ = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
USE = AccessFS.READ_FILE | AccessFS.WRITE_FILE
OF_FILES = AccessFS.EXECUTE | USE | AccessFS.IOCTL_DEV  # the rights that a rule for a file may have
# Nothing but files, folders and symbolic links is made: a reader would hang at a FIFO, and drive a device.
UNWANTED = AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK | AccessFS.MAKE_FIFO | AccessFS.MAKE_SOCK | AccessFS.IOCTL_DEV
SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/nix",
    "/sys",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
# A process' environment lies in /proc, too: not all of it.
PROC = tuple(f"/proc/{name}" for name in ("self", "cpuinfo", "meminfo", "stat", "sys", "filesystems", "mounts", "version"))
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def supported() -> bool:
    """Whether this kernel has Landlock."""
    return landlockpy.supported()


def restrict_files(policy: Policy) -> None:
    """Confine this process to the policy's files, for good."""
    with Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET) as ruleset:
        for path in {Path(path).resolve() for path in (*SYSTEM, *PROC, *policy.readable)}:
            _allow(ruleset, path, READ)
        # Python looks there for what it imports; it may not read all of it.
        ruleset.allow_path(Path.cwd(), AccessFS.READ_DIR)
        for folder in policy.writable:
            ruleset.allow_path(folder, ruleset.handled_fs & ~UNWANTED)
        for device in DEVICES:
            _allow(ruleset, Path(device), USE)
        for device in policy.devices:
            _allow(ruleset, Path(device), USE | AccessFS.READ_DIR | AccessFS.IOCTL_DEV)
        ruleset.restrict()


def _allow(ruleset: Ruleset, path: Path, access: AccessFS) -> None:
    """What is not there, or cannot be opened, needs no rule."""
    if not path.is_dir():
        access &= OF_FILES
    with contextlib.suppress(OSError):
        ruleset.allow_path(path, access)
