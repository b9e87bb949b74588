"""How many threads and workers, and how much memory each, follow from the cores and the memory that this process may use."""

from __future__ import annotations

from bunriwiki.container.limits import Memory

MAX_THREADS = 4  # of a forward pass: more of them make one pass of these models no faster
CORES_PER_WORKER = 4
WORKERS_BYTES = 2 * 2**30  # for one worker of each model, with two versions in memory
MIN_BYTES = 2 * 2**30  # with less, some versions do not fit beside the serving ones


def threads(cores: int) -> int:
    """Threads per forward pass."""
    return min(MAX_THREADS, cores)


def gateway_workers(cores: int) -> int:
    """Processes that serve HTTP and gRPC."""
    return max(1, cores // CORES_PER_WORKER)


def runner_workers(cores: int, memory: Memory | None) -> int:
    """Processes per model."""
    by_cores = cores // CORES_PER_WORKER
    return max(1, min(by_cores, memory.limit // WORKERS_BYTES) if memory else by_cores)


def max_rss_mb(memory: Memory | None) -> int:
    """Resident memory in MB above which a worker is replaced, before the kernel kills one; 0 for no limit."""
    return memory.limit // 2 // 2**20 if memory else 0


def warning(memory: Memory | None) -> str | None:
    """What a container with little memory should know; None if it has enough."""
    if memory is None or memory.limit >= MIN_BYTES:
        return None
    return (
        f"this container has {memory.limit // 2**20} MB of memory. New versions that do not fit into it beside the serving "
        f"ones are rejected; {MIN_BYTES // 2**20} MB are enough for versions as large as the bundled ones"
    )
