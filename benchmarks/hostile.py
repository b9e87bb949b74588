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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.machine import NoiseMonitor
from bunriwiki.settings import Settings
from bunriwiki.testing.crowd.measured import run_honest
from bunriwiki.testing.crowd.phase import (
    HONEST,
    MAX_GROWTH_MB,
    OTHERS,
    CrowdOptions,
    Phase,
    gateway_memory,
    measure,
    serving_command,
)
from bunriwiki.testing.server import Server

MAX_TIMES_SLOWER = 2.0  # p99 beside the hostile crowd, than beside the honest one
BUDGET_MB = Settings.model_fields["body_memory_mb"].default  # that bodies may take
WARM_UP_SECONDS = 10.0


def row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def report(phase: Phase, name: str, before: float) -> None:
    """Print a phase; `before` is the gateway's memory before the first one, in MB."""
    grew = f"memory {before:.0f} -> {phase.memory:.0f} MB (+{phase.memory - before:.0f})"
    print(f"\n{name}: the gateway's {grew}, CPU {phase.cpu:.2f} s per second")
    for kind, counts in phase.crowd.items():
        print(f"  {kind}: {counts}")
    print("\n| honest clients | answers | failures | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|---|")
    for kind, outcome in phase.honest.items():
        times = [f"{1000 * outcome.percentile(share):.1f}" for share in (0.5, 0.99, 1)]
        print(row([kind, outcome.counts["200"], phase.failures().get(kind, 0), *times]), flush=True)


def times_slower(pairs: Sequence[tuple[Phase, Phase]]) -> dict[str, float]:
    """By kind of honest client, how many times as long p99 is beside the hostile crowd: the median of the rounds.

    `pairs` are the honest and the hostile phase of each round. Not a number if there were no answers.
    """
    return {
        kind: median(hostile.honest[kind].percentile(0.99) / honest.honest[kind].percentile(0.99) for honest, hostile in pairs)
        for kind in pairs[0][0].honest
    }


def exceeded(pairs: Sequence[tuple[Phase, Phase]], before: float, max_growth: float) -> list[str]:
    """The bounds that are exceeded, a sentence each."""
    found = []
    for number, (_, hostile) in enumerate(pairs, 1):
        found += [f"Round {number}: honest {kind} failed: {failed}." for kind, failed in hostile.failures().items()]
        if hostile.memory - before > max_growth:
            found.append(f"Round {number}: the gateway grew by {hostile.memory - before:.0f} MB; {max_growth:.0f} are allowed.")
    for kind, times in times_slower(pairs).items():
        if not times <= MAX_TIMES_SLOWER:
            found.append(f"p99 of {kind} is {times:.1f} times as long; {MAX_TIMES_SLOWER:g} times is allowed.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="also large bodies and messages that do not end")
    parser.add_argument("--same", action="store_true", help="the crowds come from the address of the honest clients")
    parser.add_argument("--sources", nargs="+", default=OTHERS, help="the addresses of the crowds")
    given = parser.parse_args()
    sources = [HONEST] if given.same else given.sources
    honest = CrowdOptions("honest", given.members, given.seconds, sources)
    hostile = replace(honest, kind="large" if given.large else "hostile")
    monitor = NoiseMonitor()
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as folder:
        quiet = {"BUNRIWIKI_LOG_REQUESTS": "false"}
        server = Server(Path(folder) / "log", command=serving_command(), grpc=True, environment=quiet)
        try:
            server.wait_until_ready()
            asyncio.run(run_honest(server, WARM_UP_SECONDS))
            before = gateway_memory(server)
            pairs = []
            for number in range(1, given.rounds + 1):
                pairs.append((measure(server, honest), measure(server, hostile)))
                for phase, options in zip(pairs[-1], (honest, hostile), strict=True):
                    name = f"Round {number}, {options.members} {options.kind} connections from {', '.join(sources)}"
                    report(phase, name, before)
        finally:
            server.stop()
    print()
    for kind, times in times_slower(pairs).items():
        print(f"p99 of {kind}: {times:.2f} times that beside honest clients (median of the rounds)")
    noise = monitor.noise()
    print(f"other processes used {noise.foreign:.1%} of the cores, {noise.stolen:.1%} were stolen, load {noise.load:.1f}")
    found = exceeded(pairs, before, BUDGET_MB if given.large else MAX_GROWTH_MB)
    print("\n".join(found) or "All bounds hold.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
