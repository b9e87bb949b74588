"""What the metrics cost: an increment, and the gateway's CPU time per request with all metrics and with none.

The service with the no-op model (`noop.py`) and the same without any metrics (`unmetered.py`) get the same load in turn, for
`--rounds` pairs of short rounds (`cpu.py`).

    python -m benchmarks.metrics
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, values

from benchmarks.cpu import compare
from bunriwiki.telemetry.metrics.values import Histogram, share_values

CALLS = 200_000


def microseconds(call: Callable[[], object]) -> float:
    """The shortest of five measurements of one call."""
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS * 1e6


def increments() -> None:
    """Print what an increment and an observation cost, in the library's classes of values and in ours."""
    print("| values | increment, µs | observation, µs |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        row("prometheus_client, which asks for the process id", values.MultiProcessValue())
        row("prometheus_client, a constant identity", values.MultiProcessValue(lambda: "constant"))
        share_values(Path(folder))
        row("this service", values.ValueClass, Histogram)


def row(name: str, kind: type, histograms: type[prometheus_client.Histogram] = prometheus_client.Histogram) -> None:
    values.ValueClass = kind
    registry = CollectorRegistry()
    counter = Counter("events", "Events.", ["model"], registry=registry).labels("yolo")
    histogram = histograms("seconds", "Seconds.", ["model"], registry=registry).labels("yolo")
    print(f"| {name} | {microseconds(counter.inc):.2f} | {microseconds(lambda: histogram.observe(0.02)):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=20, help="exit with 1 if the metrics cost more microseconds per request")
    given = parser.parse_args()
    increments()
    print()
    sys.exit(compare("metrics", "unmetered", rounds=given.rounds, seconds=given.seconds) > given.most)


if __name__ == "__main__":
    main()
