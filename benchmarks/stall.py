"""The slowest answer and the memory under a sustained load, with a model that does nothing, side by side with FastAPI.

In each run both servers are started again and loaded in turn; each of them gets at least --seconds and at least --requests.
Memory is measured after 20 s of load and at its end. The exit code is 1 when a bound of `bounds.py` is exceeded.

    python -m benchmarks.stall --seconds 120 --clients 16 --runs 5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks import bounds
from benchmarks.lean import Load
from benchmarks.machine import NoiseMonitor
from benchmarks.noop_service import noop_service
from benchmarks.resident import resident
from benchmarks.serving import BIN, Served, serving
from bunriwiki.testing.paths import ROOT

EARLY = 20.0  # seconds of load before memory is measured first
LONE_SECONDS = 10.0


@dataclass(frozen=True)
class Options:
    """The load of each server."""

    seconds: float
    requests: int
    clients: int


def generator(port: int, *, clients: int, seconds: float, requests: int = 0) -> subprocess.Popen[bytes]:
    """The load generator, started in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.lean", "--port", str(port)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--requests", str(requests)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def outcome(process: subprocess.Popen[bytes]) -> Load:
    """What a load generator reports, once it has ended."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit("the load generator failed")
    return Load(**json.loads(output))


def measure(server: Served, options: Options) -> bounds.Side:
    """Load a server and measure its memory and the machine meanwhile; then do the same with a single client."""
    monitor = NoiseMonitor()
    loading = generator(server.port, clients=options.clients, seconds=options.seconds, requests=options.requests)
    time.sleep(min(EARLY, options.seconds / 2))
    early = resident(server.process.pid)
    load = outcome(loading)
    late, noise = resident(server.process.pid), monitor.noise()
    lone = outcome(generator(server.port, clients=1, seconds=min(LONE_SECONDS, options.seconds)))
    return bounds.Side(load=load, early=early, late=late, lone=lone, noise=noise)


def run_once(options: Options) -> bounds.Run:
    """Start and measure both servers."""
    plain = serving([str(BIN / "python"), "-m", "benchmarks.noop_baseline", "{port}"], "/docs")
    with noop_service() as ours, plain as theirs:
        return bounds.Run(measure(ours, options), measure(theirs, options))


def generator_alone(clients: int) -> Load:
    """What the load generator can do, against a server that only writes."""
    with serving([sys.executable, "-m", "benchmarks.canned", "{port}"], "/") as server:
        return outcome(generator(server.port, clients=clients, seconds=5))


def line(name: str, load: Load) -> str:
    """A load in a line."""
    return (
        f"{name}: {load.requests} answers, {load.rate:.0f}/s, p50 {load.p50:.2f} ms, p99 {load.p99:.2f}, "
        f"p99.9 {load.p999:.2f}, slowest {load.slowest:.1f}, generator's own stall {load.own_stall:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, default=200_000, help="per server, at least; the load lasts until then")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    options = Options(given.seconds, given.requests, given.clients)
    print(line("generator alone", generator_alone(given.clients)), flush=True)
    runs = []
    for number in range(1, given.runs + 1):
        runs.append(run_once(options))
        for name, side in (("ours", runs[-1].ours), ("FastAPI", runs[-1].theirs)):
            print(line(f"run {number}, {name}", side.load), flush=True)
            print(f"    memory {side.early['sum']:.1f} MB early, {side.late['sum']:.1f} MB at the end", flush=True)
    print(f"\n{bounds.table(runs)}\n")
    for sentence in bounds.noisy(runs):
        print(sentence)
    exceeded = bounds.exceeded(runs)
    print("\n".join(exceeded) or "All bounds hold.")
    sys.exit(bool(exceeded))


if __name__ == "__main__":
    main()
