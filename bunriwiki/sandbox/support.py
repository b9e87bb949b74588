"""What of the sandbox this kernel does not have."""

from __future__ import annotations

from bunriwiki.sandbox import landlock, seccomp


def missing() -> list[str]:
    """What is missing, and what a sandboxed program is not kept from therefore."""
    lacks = []
    if not landlock.supported():
        lacks.append("this kernel has no Landlock: what an import runs is not kept from files")
    if not seccomp.supported():
        lacks.append("no seccomp filter for this kernel: what an import runs is not kept from sockets and processes")
    return lacks
