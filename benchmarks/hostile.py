"""A thousand hostile connections at once: what they cost honest clients, beside a thousand honest ones, and the memory.

The hostile crowd sends slow heads, slow small bodies, idle gRPC streams, photos of many pixels in few bytes, and brackets; with
--large also large bodies and large gRPC messages that do not end. It comes from --sources, other addresses than the honest
clients, or with --same from theirs. In each round an honest crowd of the same size is there first, then the hostile one. The
exit code is 1 when a bound is exceeded.

    python -m benchmarks.hostile --seconds 60 --rounds 2
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.machine import NoiseMonitor
from benchmarks.resident import resident
from bunriwiki.settings import Settings
from bunriwiki.testing.crowd.measured import crowd, run_honest
from bunriwiki.testing.load import Outcome
from bunriwiki.testing.paths import SERVE_ENV
from bunriwiki.testing.server import Server

MAX_TIMES_SLOWER = 2.0  # p99 beside the hostile crowd, than beside the honest one
MAX_GROWTH = 64.0  # MB of the gateway
BUDGET = Settings.model_fields["body_memory_mb"].default  # MB that bodies may take
WARM_UP = 10.0  # seconds
ARRIVAL = 3.0  # seconds until the crowd is there
SAMPLING = 0.2  # seconds between two readings of the memory
FILES = 1024  # the usual limit of open files, with which the service is started
SOURCES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
HONEST = "127.0.0.1"  # the address of the honest clients


@dataclass
class Phase:
    """A crowd, what came of the honest clients' requests beside it, and the largest memory of the gateway in MB."""

    crowd: dict[str, dict[str, int]] = field(default_factory=dict)
    honest: dict[str, Outcome] = field(default_factory=dict)
    memory: float = 0.0


@dataclass(frozen=True)
class Options:
    """The crowd."""

    kind: str
    members: int
    seconds: float
    sources: Sequence[str]


@contextmanager
def peak_memory(server: Server) -> Iterator[list[float]]:
    """The memory of the gateway in MB, as long as the block lasts."""
    found: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLING):
            found.append(resident(server.process.pid)["gateway"])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def measure(server: Server, options: Options) -> Phase:
    """Have the crowd there, and honest clients meanwhile."""
    phase = Phase()
    stays = options.seconds + 2 * ARRIVAL
    with crowd(server, options.kind, members=options.members, seconds=stays, sources=options.sources) as there:
        with peak_memory(server) as readings:
            threading.Event().wait(ARRIVAL)
            phase.honest = asyncio.run(run_honest(server, options.seconds))
        phase.crowd = there.counts()
        phase.memory = max(readings)
    return phase


def row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def report(phase: Phase, name: str, before: float) -> None:
    """Print a phase."""
    print(f"\n{name}: the gateway's memory {before:.0f} -> {phase.memory:.0f} MB (+{phase.memory - before:.0f})")
    for kind, counts in phase.crowd.items():
        print(f"  {kind}: {counts}")
    print("\n| honest clients | answers | failures | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|---|")
    for kind, outcome in phase.honest.items():
        times = [f"{1000 * outcome.percentile(share):.1f}" for share in (0.5, 0.99, 1)]
        print(row([kind, outcome.counts["200"], failures(outcome) or 0, *times]), flush=True)


def failures(outcome: Outcome) -> dict[str, int]:
    return {what: number for what, number in outcome.counts.items() if what != "200"}


def exceeded(pairs: Sequence[tuple[Phase, Phase]], before: float, max_growth: float) -> list[str]:
    """The bounds that are exceeded, a sentence each. `pairs` are the honest and the hostile phase of each round."""
    found = []
    for number, (_, hostile) in enumerate(pairs, 1):
        found += [
            f"Round {number}: honest {kind} failed: {failures(outcome)}."
            for kind, outcome in hostile.honest.items()
            if failures(outcome) or not outcome.latencies
        ]
        if hostile.memory - before > max_growth:
            found.append(f"Round {number}: the gateway grew by {hostile.memory - before:.0f} MB; {max_growth:.0f} are allowed.")
    for kind in pairs[0][0].honest:
        ratio = median(
            hostile.honest[kind].percentile(0.99) / honest.honest[kind].percentile(0.99) for honest, hostile in pairs
        )
        print(f"p99 of {kind}: {ratio:.2f} times that beside honest clients (median of the rounds)")
        if not ratio <= MAX_TIMES_SLOWER:
            found.append(f"p99 of {kind} is {ratio:.1f} times as long; {MAX_TIMES_SLOWER:g} times is allowed.")
    return found


def limited(command: Sequence[str | Path]) -> list[str | Path]:
    """`command` with the usual limit of open files, which it may raise."""
    return ["/bin/sh", "-c", f'ulimit -Sn {FILES} && exec "$0" "$@"', *command]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="also large bodies and messages that do not end")
    parser.add_argument("--same", action="store_true", help="the hostile crowd comes from the address of the honest clients")
    parser.add_argument("--sources", nargs="+", default=SOURCES, help="the addresses of the crowds")
    given = parser.parse_args()
    sources = [HONEST] if given.same else given.sources
    honest = Options("honest", given.members, given.seconds, sources)
    hostile = Options("large" if given.large else "hostile", given.members, given.seconds, sources)
    monitor = NoiseMonitor()
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as folder:
        command = limited([SERVE_ENV / "bin" / "bentoml", "serve", "."])
        server = Server(Path(folder) / "log", command=command, grpc=True, environment={"BUNRIWIKI_LOG_REQUESTS": "false"})
        try:
            server.wait_until_ready()
            asyncio.run(run_honest(server, WARM_UP))
            before = resident(server.process.pid)["gateway"]
            pairs = []
            for number in range(1, given.rounds + 1):
                pairs.append((measure(server, honest), measure(server, hostile)))
                for phase, name in zip(pairs[-1], ("honest", hostile.kind), strict=True):
                    report(phase, f"Round {number}, {given.members} {name} connections from {', '.join(sources)}", before)
        finally:
            server.stop()
    noise = monitor.noise()
    print(f"\nother processes used {noise.foreign:.1%} of the cores, {noise.stolen:.1%} were stolen, load {noise.load:.1f}")
    found = exceeded(pairs, before, BUDGET if given.large else MAX_GROWTH)
    print("\n".join(found) or "All bounds hold.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
