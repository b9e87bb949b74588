"""python -m bunriwiki.sandbox POLICY_JSON COMMAND...

Gives up every right that the policy does not name, then becomes COMMAND. What the kernel lacks is left out (`support.py` says
what); everything else that cannot be given up ends the program before COMMAND is run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bunriwiki.sandbox import landlock, seccomp
from bunriwiki.sandbox.capabilities import DAC_READ_SEARCH, bound, has, keep_only
from bunriwiki.sandbox.descriptors import close_all_but, listen
from bunriwiki.sandbox.limits import end_with_parent, no_new_privileges, set_limits
from bunriwiki.sandbox.policy import Policy
from bunriwiki.sandbox.user import become

NOT_FOUND = 126  # the exit code where the command cannot be run


def confine(policy: Policy, parent: int) -> None:
    """Confine this process, for good. The order matters: each step needs a right that a later one gives up."""
    close_all_but(policy.keep)
    for group in policy.cgroups:
        Path(group, "cgroup.procs").write_text("0", encoding="ascii")
    if policy.listen is not None:
        listen(policy.listen)
    set_limits(policy)
    # Code, environments and models may lie below a home that only its owner may enter. Landlock says what is read all the same,
    # and the filter keeps this capability from opening files by their handle, past Landlock.
    reads = policy.user is not None and landlock.supported() and seccomp.supported() and has(DAC_READ_SEARCH)
    kept = (DAC_READ_SEARCH,) if reads else ()
    bound(*kept)
    if landlock.supported():
        landlock.restrict_files(policy)
    if policy.user is not None:
        become(policy.user)
    keep_only(*kept)
    no_new_privileges()
    end_with_parent(parent)
    if seccomp.supported():
        seccomp.install()


def main() -> None:
    parent = os.getppid()
    policy, command = Policy.from_json(sys.argv[1]), sys.argv[2:]
    confine(policy, parent)
    try:
        os.execv(command[0], command)  # noqa: S606 (the command is the parent's)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND)


if __name__ == "__main__":
    main()
