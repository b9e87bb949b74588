"""Resource limits, priority, and the end of the parent."""

from __future__ import annotations

import os
import resource
import signal
import sys

from bunriwiki.sandbox.kernel import LIBC, prctl
from bunriwiki.sandbox.policy import Policy
from bunriwiki.sandbox.rules import IOPRIO_WHO_PROCESS
from bunriwiki.sandbox.syscalls import ARCHITECTURES, number

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
IDLE = 3 << 13  # IOPRIO_CLASS_IDLE


def set_limits(policy: Policy) -> None:
    """What `setrlimit` and the scheduler hold."""
    limits = {
        resource.RLIMIT_DATA: policy.memory,
        resource.RLIMIT_FSIZE: policy.file_size,
        resource.RLIMIT_NPROC: policy.tasks,
        resource.RLIMIT_NOFILE: policy.open_files,
    }
    for which, limit in limits.items():
        if limit:
            _lower(which, limit)
    _lower(resource.RLIMIT_CORE, 0)
    if policy.low_priority:
        os.nice(19)
        if os.uname().machine in ARCHITECTURES:
            LIBC.syscall(number("ioprio_set", os.uname().machine), IOPRIO_WHO_PROCESS, 0, IDLE)


def _lower(which: int, limit: int) -> None:
    """Never above the hard limit that is there."""
    hard = resource.getrlimit(which)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


def end_with_parent(parent: int) -> None:
    """Be killed when the parent's thread ends that started this process. A change of user undoes that: call this afterwards."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        sys.exit("the parent has ended")


def no_new_privileges() -> None:
    """No program that this one becomes has more rights than it: set-user-id bits and file capabilities do not count."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
