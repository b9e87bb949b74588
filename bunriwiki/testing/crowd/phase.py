"""A phase of an attack: a crowd is there, honest clients are answered meanwhile, and the gateway's memory is watched."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bunriwiki.testing.crowd.measured import crowd, run_honest
from bunriwiki.testing.load import Outcome
from bunriwiki.testing.paths import SERVE_ENV
from bunriwiki.testing.server import Server

ARRIVAL_SECONDS = 3.0  # until the crowd is there
SAMPLING_SECONDS = 0.2  # between two readings of the memory
FILES = 1024  # the usual limit of open files, with which the service is started
HONEST = "127.0.0.1"  # the address of the honest clients
OTHERS = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")  # addresses of a crowd
GATEWAY = "bunriwiki"  # the gateway's name among the workers of a server
MAX_GROWTH_MB = 64.0  # of the gateway's memory, if no large bodies are sent


@dataclass(frozen=True)
class CrowdOptions:
    """A crowd: its kind, its size, how long it is there, and the addresses that it comes from."""

    kind: str
    members: int
    seconds: float
    sources: Sequence[str]


@dataclass(frozen=True)
class Phase:
    """What came of the crowd, and of the honest clients' requests beside it.

    `memory` is the largest of the gateway in MB, and `cpu` the CPU time that it took per second.
    """

    crowd: dict[str, dict[str, int]]
    honest: dict[str, Outcome]
    memory: float
    cpu: float = 0.0

    def failures(self) -> dict[str, dict[str, int]]:
        """By kind of honest client, what came of the requests that were not answered; `none sent` if none was."""
        found = {kind: {what: many for what, many in one.counts.items() if what != "200"} for kind, one in self.honest.items()}
        unanswered = {kind: {"none sent": 0} for kind, one in self.honest.items() if not one.counts}
        return {kind: failed for kind, failed in {**found, **unanswered}.items() if failed}


def serving_command() -> list[str | Path]:
    """`bentoml serve` with the usual limit of open files, which it may raise."""
    return ["/bin/sh", "-c", f'ulimit -Sn {FILES} && exec "$0" "$@"', SERVE_ENV / "bin" / "bentoml", "serve", "."]


def gateway_memory(server: Server) -> float:
    """The resident memory of the gateway in MB."""
    return float(server.workers()[GATEWAY].memory_info().rss) / 2**20


def measure(server: Server, options: CrowdOptions) -> Phase:
    """Have the crowd there, and honest clients meanwhile."""
    stays = options.seconds + 2 * ARRIVAL_SECONDS
    gateway = server.workers()[GATEWAY]
    with crowd(server, options.kind, members=options.members, seconds=stays, sources=options.sources) as there:
        began, before = time.monotonic(), gateway.cpu_times()
        with _memory_of(gateway) as readings:
            threading.Event().wait(ARRIVAL_SECONDS)
            honest = asyncio.run(run_honest(server, options.seconds))
        seconds, after = time.monotonic() - began, gateway.cpu_times()
        cpu = (after.user + after.system - before.user - before.system) / seconds
        return Phase(there.counts(), honest, max(readings), cpu)


@contextmanager
def _memory_of(process: psutil.Process) -> Iterator[list[float]]:
    """Readings of its resident memory in MB, as long as the block lasts."""
    readings: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLING_SECONDS):
            readings.append(process.memory_info().rss / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield readings
    finally:
        over.set()
        thread.join()
