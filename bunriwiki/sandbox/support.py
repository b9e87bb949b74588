"""Reports which parts of the sandbox this kernel lacks."""

from __future__ import annotations

from bunriwiki.sandbox import landlock, seccomp


def missing() -> list[str]:
    """A sentence for each kernel feature that is missing: what the sandbox does not restrict without it."""
    sentences = []
    if not landlock.supported():
        sentences.append("this kernel has no Landlock: the sandbox of imports does not restrict access to files")
    if not seccomp.supported():
        sentences.append("no seccomp filter for this kernel: the sandbox of imports does not restrict sockets and processes")
    return sentences
