"""What metrics, drift and feedback tickets cost: an increment, and CPU time per request with all of them and with none.

The service with the no-op model (`switched.py`) gets the same load in three modes in turn, for `--rounds` short rounds: with
metrics, drift and tickets (the usual service with a key for tickets), without tickets, and without any of them. It is started
`--services` times, as each process lies differently in the caches.

    python -m benchmarks.metrics
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from benchmarks.cpu import CLIENTS, SwitchedService
from benchmarks.difference import Difference
from benchmarks.lean import BODY, PATH
from benchmarks.modes import Mode
from benchmarks.noop_service import noop_service
from bunriwiki.telemetry.metrics.values import recorder, share_values

CALLS = 200_000
TICKETS = {"BUNRIWIKI_FEEDBACK_KEY": "k" * 64}


def microseconds(call: Callable[[], object]) -> float:
    """The shortest of five measurements of one call."""
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS * 1e6


def increments() -> None:
    """Print what an increment and an observation cost, in the library's classes of values and in ours."""
    print("| values | increment, µs | observation, µs |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bunriwiki-bench-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.MultiProcessValue()
        counter, histogram = children()
        row("prometheus_client", counter.inc, lambda: histogram.observe(0.02))
        share_values(Path(folder))
        shared_counter, shared_histogram = children()
        row("prometheus_client with this service's values", shared_counter.inc, lambda: shared_histogram.observe(0.02))
        counted, observed = recorder([shared_counter]), recorder([shared_histogram])
        both, four = recorder([shared_counter], [shared_histogram]), recorder(*[[shared_histogram]] * 4)
        row("a record of one amount", lambda: counted(1), lambda: observed(0.02))
        row("a record of both, and of four observations", lambda: both(1, 0.02), lambda: four(0.02, 0.02, 0.02, 0.02))


def children() -> tuple[Counter, Histogram]:
    registry = CollectorRegistry()
    counter = Counter("events", "Events.", ["model"], registry=registry).labels("yolo")
    return counter, Histogram("seconds", "Seconds.", ["model"], registry=registry).labels("yolo")


def row(name: str, increment: Callable[[], object], observation: Callable[[], object]) -> None:
    print(f"| {name} | {microseconds(increment):.2f} | {microseconds(observation):.2f} |")


def check_modes(service: SwitchedService, url: str) -> None:
    """Exit unless only the mode with tickets sends them: otherwise nothing would be compared."""
    for mode in Mode:
        service.switch(mode)
        answer = httpx.post(f"{url}{PATH}", content=BODY, headers={"Content-Type": "application/json"})
        if ("x-feedback-ticket" in answer.headers) != (mode is Mode.ALL):
            raise SystemExit("the modes do not differ in their tickets")


def measure(services: int, rounds: int, seconds: float) -> dict[int, list[list[tuple[float, float]]]]:
    """By number of clients, the rounds: for each mode, what a request took the gateway and the runner."""
    found: dict[int, list[list[tuple[float, float]]]] = {clients: [] for clients in CLIENTS}
    for _ in range(services):
        with noop_service("benchmarks.switched", TICKETS) as served:
            service = SwitchedService(served)
            check_modes(service, served.url)
            for clients, of_clients in found.items():
                for number in range(rounds):
                    order = list(Mode)[:: -1 if number % 2 else 1]
                    measured = {mode: service.cpu_per_request(mode, clients, seconds) for mode in order}
                    of_clients.append([measured[mode] for mode in Mode])
    return found


def difference(rounds: list[list[float]], one: Mode, other: Mode) -> Difference:
    return Difference.of([each[one] - each[other] for each in rounds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=3, help="how often the service is started")
    parser.add_argument("--rounds", type=int, default=40, help="of each service, for each number of clients")
    parser.add_argument("--seconds", type=float, default=0.2, help="for which a mode is measured in a round")
    parser.add_argument("--most", type=float, default=20, help="exit with 1 if all cost more microseconds of the gateway's CPU")
    given = parser.parse_args()
    increments()
    print(
        "\nµs of CPU per request: the medians, and the medians of the rounds' differences with their 95 % intervals\n\n"
        "| clients | gateway, all | no tickets | none | all - none | tickets | runner, all - none |\n"
        "|---|---|---|---|---|---|---|"
    )
    too_much = False
    for clients, rounds in measure(given.services, given.rounds, given.seconds).items():
        gateway = [[of_gateway for of_gateway, _ in each] for each in rounds]
        runner = [[of_runner for _, of_runner in each] for each in rounds]
        medians = " | ".join(f"{statistics.median(each):.1f}" for each in zip(*gateway, strict=True))
        everything = difference(gateway, Mode.ALL, Mode.NONE)
        print(
            f"| {clients} | {medians} | {everything} | {difference(gateway, Mode.ALL, Mode.NO_TICKETS)} "
            f"| {difference(runner, Mode.ALL, Mode.NONE)} |"
        )
        too_much |= everything.median > given.most
    sys.exit(too_much)


if __name__ == "__main__":
    main()
