"""The rules of the seccomp filter: which system calls it rejects, and why.

The rules are a deny-list. An allow-list would have to name every call that glibc, OpenBLAS, ONNX Runtime and torch make, on
every kernel, and would break with their next release; files, the larger part of the kernel's surface, are covered by Landlock's
allow-list. Calls that are newer than these tables fail with ENOSYS in the sandbox: a new kernel adds no attack surface.

A filter cannot see the memory that a call points to: no rule here depends on the content of an address or a path.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

REJECTED = {
    # All address families: Landlock does not mediate Unix sockets with a path, UDP or netlink.
    "sockets": ("socket", "connect", "bind"),
    # Operations that the kernel executes on behalf of a process, past its filter.
    "io_uring": ("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # A child process could outlive the import, and no limit counts it. Threads are allowed: see `clone` in `allowed_if`.
    "processes": ("fork", "vfork"),
    "other processes": (
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
        "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "tkill", "migrate_pages", "move_pages",
    ),
    # Memory that no limit counts, or that persists after the process ends.
    "shared memory": (
        "memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl",
        "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify",
        "mq_getsetattr",
    ),
    "mounts and namespaces": (
        "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig",
        "fsmount", "fspick", "mount_setattr", "unshare", "setns",
    ),
    # Opening a file by its handle bypasses the rules about its folders.
    "files past their path": ("open_by_handle_at", "name_to_handle_at"),
    # The sidecar would open a FIFO or a device where it expects a file.
    "special files": ("mknod", "mknodat"),
    "kernel": (
        "bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "lookup_dcookie", "personality",
        "modify_ldt", "iopl", "ioperm", "fanotify_init", "fanotify_mark", "uselib", "_sysctl", "lsm_set_self_attr",
    ),
    "machine": (
        "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load", "reboot", "swapon",
        "swapoff", "quotactl", "quotactl_fd", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname",
        "setdomainname", "acct", "syslog", "vhangup", "nfsservctl", "file_setattr",
    ),
}  # fmt: skip

# Landlock does not mediate these calls, so they would act outside the writable folders. They report success and do nothing,
# because libraries copy files with `shutil.copy2` and the like, which fail if these calls fail. So a program in the sandbox
# cannot rely on a mode or a time that it sets; the mode that a file is created with is kept.
PRETENDED = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat",
    "utimensat",
)  # fmt: skip

# Not mediated either; libraries handle this error, because many file systems have no extended attributes.
UNSUPPORTED = (
    "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
)  # fmt: skip

# glibc falls back to `clone`, whose flags a filter can read.
ABSENT = ("clone3",)


class Check(NamedTuple):
    """Holds if the lower or higher half of the argument, masked, is one of the values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False


CLONE_THREAD = 0x00010000
CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # namespaces
AF_UNIX = 1
SOCK_STREAM, SOCK_SEQPACKET = 1, 5
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1


def allowed_if(pid: int) -> dict[str, tuple[Check, ...]]:
    """Calls that the process `pid` may make only if all of their checks hold."""
    itself, current = (pid,), (0, pid)
    return {
        "clone": (Check(0, (CLONE_THREAD,), CLONE_THREAD | CLONE_NEW),),
        "kill": (Check(0, itself),),
        "tgkill": (Check(0, itself),),
        "rt_sigqueueinfo": (Check(0, itself),),
        "rt_tgsigqueueinfo": (Check(0, itself),),
        # Only without an address. A filter cannot see the address of `sendmsg`; that call needs no rule because only datagram
        # sockets send to an address, and `socketpair` creates none.
        "sendto": (Check(4, (0,)), Check(4, (0,), high=True)),
        "socketpair": (Check(0, (AF_UNIX,)), Check(1, (SOCK_STREAM, SOCK_SEQPACKET), 0xF)),
        "prlimit64": (Check(0, current),),
        "sched_setaffinity": (Check(0, current),),
        "sched_setscheduler": (Check(0, current),),
        "sched_setparam": (Check(0, current),),
        "sched_setattr": (Check(0, current),),
        "setpriority": (Check(0, (PRIO_PROCESS,)), Check(1, current)),
        "ioprio_set": (Check(0, (IOPRIO_WHO_PROCESS,)), Check(1, current)),
    }


DENIED_IF: dict[str, Check] = {
    # TIOCSTI and TIOCLINUX type into a terminal; FIOSETOWN and SIOCSPGRP send signals to other processes; the others change
    # attributes of a file that is open for reading only (FS_IOC_SETFLAGS, its 32-bit form, SETVERSION, FSSETXATTR,
    # ENABLE_VERITY, SET_ENCRYPTION_POLICY).
    "ioctl": Check(1, (0x5412, 0x541C, 0x8901, 0x8902, 0x40086602, 0x40046602, 0x40087602, 0x401C5820, 0x40806685, 0x800C6613)),
    # F_SETOWN and F_SETOWN_EX send signals to other processes; a lease (F_SETLEASE) blocks other processes that open the file.
    "fcntl": Check(1, (8, 15, 1024)),
    # PR_SET_PDEATHSIG would let it outlive its parent. PR_SET_DUMPABLE would hide its open files from the sidecar.
    "prctl": Check(0, (1, 4)),
}

ANSWERS = {
    **{name: errno.EPERM for group in REJECTED.values() for name in group},
    **dict.fromkeys(PRETENDED, 0),
    **dict.fromkeys(UNSUPPORTED, errno.ENOTSUP),
    **dict.fromkeys(ABSENT, errno.ENOSYS),
}
"""The error number with which each call fails whatever its arguments; 0 reports success."""
