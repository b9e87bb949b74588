"""What the metrics cost: an increment, and the gateway's CPU time per request with all metrics and with none.

The service with the no-op model (`noop.py`) and the same without any metrics (`unmetered.py`) get the same load in turn, for
`--rounds` pairs of short rounds. CPU time is what the kernel accounts to all threads of the gateway (`schedstat`). Other
processes make it longer, by sharing caches and cores, so the table has the fastest rounds of each, which were disturbed least,
beside the median of all pairs.

    python -m benchmarks.metrics
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import prometheus_client
import psutil
from prometheus_client import CollectorRegistry, Counter, values

from benchmarks.noop_service import noop_service
from benchmarks.serving import Served
from bunriwiki.telemetry.metrics.values import Histogram, share_values

CALLS = 200_000
CLIENTS = (1, 16)


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


def gateway(served: Served) -> psutil.Process:
    """The process of the gateway's worker."""
    for child in psutil.Process(served.process.pid).children(recursive=True):
        command = child.cmdline()
        if "_bentoml_impl.worker.service" in command and command[command.index("--service-name") + 1] == "bunriwiki":
            return child
    raise SystemExit("the service has no gateway")


def cpu_per_request(served: Served, clients: int, seconds: float) -> float:
    """Microseconds of the gateway's CPU time per request, under a load of so many clients."""
    worker = gateway(served)
    before = cpu_nanoseconds(worker)
    command = [sys.executable, "-m", "benchmarks.lean", "--port", str(served.port), "--clients", str(clients)]
    result = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    load = json.loads(result.stdout)
    if load["failures"]:
        raise SystemExit(f"requests failed: {load['failures']}")
    return (cpu_nanoseconds(worker) - before) / 1000 / int(load["requests"])


def cpu_nanoseconds(process: psutil.Process) -> int:
    """The CPU time of all threads that the process has."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=20, help="exit with 1 if the metrics cost more microseconds per request")
    given = parser.parse_args()
    increments()
    print("\n| clients | all metrics, µs CPU per request | none | difference | median of pairs |\n|---|---|---|---|---|")
    too_much = False
    with ExitStack() as stack:
        metered, unmetered = (stack.enter_context(noop_service(f"benchmarks.{name}")) for name in ("noop", "unmetered"))
        for clients in CLIENTS:
            pairs = [
                tuple(cpu_per_request(served, clients, given.seconds) for served in (metered, unmetered))
                for _ in range(given.rounds)
            ]
            with_metrics, without = (min(pair[side] for pair in pairs) for side in (0, 1))
            median = statistics.median(one - other for one, other in pairs)
            difference = with_metrics - without
            print(f"| {clients} | {with_metrics:.1f} | {without:.1f} | {difference:.1f} | {median:.1f} |", flush=True)
            too_much |= difference > given.most
    sys.exit(too_much)


if __name__ == "__main__":
    main()
