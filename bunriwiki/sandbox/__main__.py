"""The sandbox launcher.

    python -m bunriwiki.sandbox POLICY_JSON COMMAND...

It drops every right that the policy does not grant, then executes COMMAND in its place. Features that the kernel lacks are
skipped (`support.py` lists them); if any other step fails, the launcher exits before COMMAND runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bunriwiki.sandbox import landlock, seccomp
from bunriwiki.sandbox.capabilities import DAC_READ_SEARCH, has, keep_only, limit_bounding_set
from bunriwiki.sandbox.descriptors import close_all_but, listen
from bunriwiki.sandbox.limits import end_with_parent, no_new_privileges, set_limits
from bunriwiki.sandbox.policy import Policy
from bunriwiki.sandbox.user import become

CANNOT_EXECUTE = 126  # the exit code if COMMAND cannot be executed


def enter_sandbox(policy: Policy, parent: int) -> None:
    """Restrict this process, irrevocably. The order matters: each step needs a right that a later step drops."""
    close_all_but(policy.keep)
    for group in policy.cgroups:
        Path(group, "cgroup.procs").write_text("0", encoding="ascii")
    if policy.listen is not None:
        listen(policy.listen)
    set_limits(policy)
    # Code, environments and models may lie below a home directory that only its owner may enter. Landlock still decides which
    # files can be read, and the filter prevents using this capability to open files by handle, which would bypass Landlock.
    reads = policy.user is not None and landlock.supported() and seccomp.supported() and has(DAC_READ_SEARCH)
    kept = (DAC_READ_SEARCH,) if reads else ()
    limit_bounding_set(*kept)
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
    enter_sandbox(policy, parent)
    try:
        os.execv(command[0], command)  # noqa: S606 (the command is the parent's)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
