"""The slowest answer and the memory under a sustained load, with a model that does nothing, side by side with FastAPI.

In each run both servers start anew and are loaded in turn; each side gets at least --seconds and at least --requests. Memory is
looked at after 20 s of load and at its end. The exit code is 1 when a bound of `verdict.py` does not hold.

    python -m benchmarks.stall --seconds 120 --clients 16 --runs 5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import verdict
from benchmarks.lean import Load
from benchmarks.load import free_port
from benchmarks.machine import RolloutMonitor
from benchmarks.noop_service import noop_service
from benchmarks.resident import resident
from benchmarks.side_by_side import BIN, ROOT, start

EARLY = 20.0  # seconds of load before the first look at the memory
LONE_SECONDS = 10.0


@dataclass(frozen=True)
class Options:
    """What each side gets."""

    seconds: float
    requests: int
    clients: int


def generator(port: int, *, clients: int, seconds: float, requests: int = 0) -> subprocess.Popen[bytes]:
    """The load generator, started, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.lean", "--port", str(port)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--requests", str(requests)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def outcome(process: subprocess.Popen[bytes]) -> Load:
    """What a load generator reports, once it has ended."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit("the load generator failed")
    return Load(**json.loads(said))


def measure(server: subprocess.Popen[bytes], port: int, options: Options) -> verdict.Side:
    """Load a server, and look at its memory and at the machine meanwhile; then a lone client."""
    watch = RolloutMonitor()
    loading = generator(port, clients=options.clients, seconds=options.seconds, requests=options.requests)
    time.sleep(min(EARLY, options.seconds / 2))
    early = resident(server.pid)
    load = outcome(loading)
    late, noise = resident(server.pid), watch.noise()
    lone = outcome(generator(port, clients=1, seconds=min(LONE_SECONDS, options.seconds)))
    return verdict.Side(load=load, early=early, late=late, lone=lone, noise=noise)


@contextmanager
def started(module: str, *, python: str, probe: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A module that serves on the port it is given, and that port. It ends with the block."""
    port = free_port()
    process, _ = start([python, "-m", module, str(port)], port, probe)
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait()


def run_once(options: Options) -> verdict.Run:
    """Both servers, started anew."""
    plain = started("benchmarks.noop_baseline", python=str(BIN / "python"), probe="/docs")
    with noop_service() as ours, plain as theirs:
        return verdict.Run(measure(*ours, options), measure(*theirs, options))


def of_the_generator(clients: int) -> Load:
    """What the load generator can do, against a server that only writes."""
    with started("benchmarks.canned", python=sys.executable, probe="/") as (_, port):
        return outcome(generator(port, clients=clients, seconds=5))


def line(name: str, load: Load) -> str:
    """A load in a line."""
    return (
        f"{name}: {load.requests} answers, {load.rate:.0f}/s, p50 {load.p50:.2f} ms, p99 {load.p99:.2f}, "
        f"p99.9 {load.p999:.2f}, slowest {load.slowest:.1f}, generator's own stall {load.own_stall:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, default=200_000, help="per side, at least; the load lasts until then")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    options = Options(given.seconds, given.requests, given.clients)
    print(line("generator alone", of_the_generator(given.clients)), flush=True)
    runs = []
    for number in range(1, given.runs + 1):
        runs.append(run_once(options))
        for name, side in (("ours", runs[-1].ours), ("FastAPI", runs[-1].theirs)):
            print(line(f"run {number}, {name}", side.load), flush=True)
            print(f"    memory {side.early['sum']:.1f} MB early, {side.late['sum']:.1f} MB at the end", flush=True)
    print(f"\n{verdict.table(runs)}\n")
    for sentence in verdict.disturbed(runs):
        print(sentence)
    failed = verdict.broken(runs)
    print("\n".join(failed) or "All bounds hold.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
