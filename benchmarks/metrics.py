"""What metrics, drift and feedback tickets cost: an increment, and CPU time per request with all of them and with none.

Three services with the no-op model (`noop.py`) get the same load in turn, for `--rounds` short rounds (`cpu.py`): with metrics,
drift and tickets (the usual service with a key for tickets), without tickets, and without any of them (`unmetered.py`).

    python -m benchmarks.metrics
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from benchmarks.cpu import CLIENTS, cpu_per_request
from benchmarks.lean import BODY, PATH
from benchmarks.noop_service import noop_service
from benchmarks.serving import Served
from bunriwiki.telemetry.metrics.values import recorder, share_values

CALLS = 200_000
TICKETS = {"BUNRIWIKI_FEEDBACK_KEY": "k" * 64}
ALL, NO_TICKETS, NONE = range(3)
SERVICES: Sequence[tuple[str, Mapping[str, str]]] = (
    ("benchmarks.noop", TICKETS),
    ("benchmarks.noop", {}),
    ("benchmarks.unmetered", {}),
)


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


def check_tickets(services: list[Served]) -> None:
    """Exit unless only the first service sends tickets: otherwise nothing would be compared."""
    for number, served in enumerate(services):
        answer = httpx.post(f"{served.url}{PATH}", content=BODY, headers={"Content-Type": "application/json"})
        if ("x-feedback-ticket" in answer.headers) != (number == ALL):
            raise SystemExit("the services do not differ in their tickets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=20, help="exit with 1 if all cost more microseconds of the gateway's CPU")
    given = parser.parse_args()
    increments()
    print(
        "\nµs of CPU per request, the fastest rounds; in brackets, the median of the rounds' differences\n\n"
        "| clients | gateway, all | without tickets | none | all - none | tickets | runner, all - none |\n"
        "|---|---|---|---|---|---|---|"
    )
    too_much = False
    with ExitStack() as stack:
        services = [stack.enter_context(noop_service(module, settings)) for module, settings in SERVICES]
        check_tickets(services)
        for clients in CLIENTS:
            rounds = [[cpu_per_request(served, clients, given.seconds) for served in services] for _ in range(given.rounds)]
            gateway = [[of_gateway for of_gateway, _ in each] for each in rounds]
            runner = [[of_runner for _, of_runner in each] for each in rounds]
            everything, metrics, nothing = (min(each) for each in zip(*gateway, strict=True))
            print(
                f"| {clients} | {everything:.1f} | {metrics:.1f} | {nothing:.1f} | {difference(gateway, ALL, NONE)} "
                f"| {difference(gateway, ALL, NO_TICKETS)} | {difference(runner, ALL, NONE)} |",
                flush=True,
            )
            too_much |= everything - nothing > given.most
    sys.exit(too_much)


def difference(rounds: list[list[float]], one: int, other: int) -> str:
    fastest = min(each[one] for each in rounds) - min(each[other] for each in rounds)
    return f"{fastest:.1f} ({statistics.median(each[one] - each[other] for each in rounds):.1f})"


if __name__ == "__main__":
    main()
