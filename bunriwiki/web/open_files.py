"""The limit for open files of this process, and what connections may have of it."""

from __future__ import annotations

import resource

WANTED = 65_536  # a higher limit slows down programs that close every number
MAX_CONNECTIONS = 4096  # of one server in one process; each costs about 16 KB


def raise_limit() -> int:
    """Raise the limit for open files as far as this process may, and return it. Processes that it starts inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """The number of files that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def max_connections(share: float) -> int:
    """The connections that a server may have which gets `share` of this process's files."""
    return max(1, min(MAX_CONNECTIONS, int(limit() * share)))
