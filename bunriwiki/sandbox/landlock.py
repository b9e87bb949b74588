"""The file allow-list, enforced by Landlock (Linux 5.13; network rules 6.7, signals and abstract sockets 6.12).

Landlock mediates opening, creating, linking, renaming and removing files. It does not mediate `chmod`, `chown`, `utime`,
`setxattr` and connecting to a Unix socket by its path: the seccomp filter handles those (`rules.py`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import landlockpy
from landlockpy import AccessFS, Ruleset, Scope

from bunriwiki.sandbox.policy import Policy

READ = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
USE = AccessFS.READ_FILE | AccessFS.WRITE_FILE
FILE_RIGHTS = AccessFS.EXECUTE | USE | AccessFS.IOCTL_DEV  # the rights that a rule for a file may have
# Only files, folders and symbolic links may be created: a reader would block on a FIFO, or operate a device.
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
# Not all of /proc: it also exposes other processes' environments.
PROC = tuple(f"/proc/{name}" for name in ("self", "cpuinfo", "meminfo", "stat", "sys", "filesystems", "mounts", "version"))
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def supported() -> bool:
    """Whether this kernel has Landlock."""
    return landlockpy.supported()


def restrict_files(policy: Policy) -> None:
    """Restrict this process to the policy's files, irrevocably. Raises OSError if a writable folder does not exist."""
    with Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET) as ruleset:
        for path in {Path(path).resolve() for path in (*SYSTEM, *PROC, *policy.readable)}:
            _allow(ruleset, path, READ)
        # Python lists the working directory for its imports; other files in it stay unreadable.
        ruleset.allow_path(Path.cwd(), AccessFS.READ_DIR)
        for folder in policy.writable:
            ruleset.allow_path(folder, ruleset.handled_fs & ~UNWANTED)
        for device in DEVICES:
            _allow(ruleset, Path(device), USE)
        for device in policy.devices:
            _allow(ruleset, Path(device), USE | AccessFS.READ_DIR | AccessFS.IOCTL_DEV)
        for name in PROC:
            _pin(Path(name).resolve())
        ruleset.restrict()


def _pin(path: Path) -> None:
    """Keep the inode of `path` in memory while this process runs, and the program that it executes.

    A rule is about an inode. When memory is short, the kernel drops unused inodes of /proc, and makes a new one at the next
    look-up, which no rule would allow.
    """
    with contextlib.suppress(OSError):
        os.set_inheritable(os.open(path, os.O_PATH | os.O_NOFOLLOW), True)


def _allow(ruleset: Ruleset, path: Path, access: AccessFS) -> None:
    """Add a rule for `path`. A path that does not exist or cannot be opened needs none."""
    if not path.is_dir():
        access &= FILE_RIGHTS
    with contextlib.suppress(OSError):
        ruleset.allow_path(path, access)
