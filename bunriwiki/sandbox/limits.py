"""Resource limits, scheduling priority, no_new_privs, and ending together with the parent."""

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
    """Apply the policy's limits that `setrlimit` and the scheduler enforce."""
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
    """Set the soft and hard limit, never above the present hard limit."""
    hard = resource.getrlimit(which)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Changing the user resets this setting: call it afterwards. Exits if the parent has ended already.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the prctl
        sys.exit("the parent has ended")


def no_new_privileges() -> None:
    """Ignore set-user-id bits and file capabilities of the programs that this process executes."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
