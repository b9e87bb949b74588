"""Which system calls the seccomp filter rejects, and why.

A deny-list. An allow-list would have to name every call that glibc, OpenBLAS, ONNX Runtime and torch make, on every kernel, and
would break with their next release; files, the larger part of the kernel's surface, are Landlock's allow-list already. What the
tables do not know, because it is newer, does not exist in the sandbox (ENOSYS): a new kernel adds nothing to what can be done.

What a filter cannot see is memory that a call points to: no rule here rests on the name in an address or a path.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

REJECTED = {
    # Every address family: Landlock does not mediate Unix sockets that lie at a path, nor UDP, nor netlink.
    "sockets": ("socket", "connect", "bind"),
    # Work that the kernel does on behalf of a process, past its filter.
    "io_uring": ("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # A process could outlive the import, and is counted by nobody. Threads are not: `ONLY` has clone.
    "processes": ("fork", "vfork"),
    "other processes": (
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
        "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "tkill", "migrate_pages", "move_pages",
    ),
    # Memory that no limit counts, or that stays when the process ends.
    "shared memory": (
        "memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl",
        "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify",
        "mq_getsetattr",
    ),
    "mounts and namespaces": (
        "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig",
        "fsmount", "fspick", "mount_setattr", "unshare", "setns",
    ),
    # A file by its handle is opened past the folders that it lies in.
    "files past their path": ("open_by_handle_at", "name_to_handle_at"),
    # A FIFO or a device where the sidecar expects a file.
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

# Landlock does not mediate these: they would act outside the writable folders. They answer that they are done and do
# nothing, because libraries copy files with `shutil.copy2` and the like, and fail where these do. So no program in the sandbox
# can rely on a mode or a time that it sets; the mode that a file is made with holds.
PRETENDED = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat",
    "utimensat",
)  # fmt: skip

# The same, but libraries expect this answer: many file systems have no extended attributes.
UNSUPPORTED = (
    "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
)  # fmt: skip

# glibc goes back to `clone` then, whose flags a filter can read.
ABSENT = ("clone3",)


class Check(NamedTuple):
    """The argument (its lower or its higher half), masked, is one of the values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False


CLONE_THREAD = 0x00010000
CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # namespaces
AF_UNIX = 1
SOCK_STREAM, SOCK_SEQPACKET = 1, 5
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1


def only(pid: int) -> dict[str, tuple[Check, ...]]:
    """Calls that the process `pid` may make only if all checks hold."""
    itself, current = (pid,), (0, pid)
    return {
        "clone": (Check(0, (CLONE_THREAD,), CLONE_THREAD | CLONE_NEW),),
        "kill": (Check(0, itself),),
        "tgkill": (Check(0, itself),),
        "rt_sigqueueinfo": (Check(0, itself),),
        "rt_tgsigqueueinfo": (Check(0, itself),),
        # Without an address. With one, a datagram socket of a pair could write to any other: there are none, so that `sendmsg`,
        # whose address a filter cannot see, needs no rule.
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


UNLESS: dict[str, Check] = {
    # TIOCSTI and TIOCLINUX type into a terminal; FIOSETOWN and SIOCSPGRP have signals sent to others; the rest changes the
    # attributes of a file that is open for reading only (FS_IOC_SETFLAGS, its 32-bit form, SETVERSION, FSSETXATTR,
    # ENABLE_VERITY, SET_ENCRYPTION_POLICY).
    "ioctl": Check(1, (0x5412, 0x541C, 0x8901, 0x8902, 0x40086602, 0x40046602, 0x40087602, 0x401C5820, 0x40806685, 0x800C6613)),
    # F_SETOWN and F_SETOWN_EX have signals sent to others; a lease (F_SETLEASE) makes others wait who open the file.
    "fcntl": Check(1, (8, 15, 1024)),
    # PR_SET_PDEATHSIG: it ends with its parent. PR_SET_DUMPABLE: a process that is not dumpable hides its open files.
    "prctl": Check(0, (1, 4)),
}

ANSWERS = {
    **{name: errno.EPERM for group in REJECTED.values() for name in group},
    **dict.fromkeys(PRETENDED, 0),
    **dict.fromkeys(UNSUPPORTED, errno.ENOTSUP),
    **dict.fromkeys(ABSENT, errno.ENOSYS),
}
"""The answer to each call that is rejected whatever its arguments; 0 is success."""
