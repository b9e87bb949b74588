"""What all limits for a hostile network cost: the gateway's CPU time per request with them, and without any.

The first table has parts of it by themselves, which hardly depend on the rest of the machine. Then the service with the no-op
model (`noop.py`) and the same without limits (`unlimited.py`) get the same load in turn, for `--rounds` pairs of short rounds
(`cpu.py`). Both are started `--services` times, as each process lies differently in the caches. The medians count.

    python -m benchmarks.limits
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from benchmarks.cpu import CLIENTS, cpu_per_request
from benchmarks.difference import Difference
from benchmarks.noop_service import noop_service
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.web.bodies import BodyReader, ReadLimits
from bunriwiki.web.clients import Clients, group_of

CALLS = 50_000
BODY = b'{"text": "a comment"}'
ADDRESS = "127.0.0.1"
SCOPE: dict[str, Any] = {"client": (ADDRESS, 50_000), "headers": [(b"content-length", b"%d" % len(BODY))]}


async def parts() -> None:
    """Print what each part costs."""
    reader, memory, clients = BodyReader(ReadLimits(30, 1000, 10)), Memory(), Clients()
    message = {"type": "http.request", "body": BODY, "more_body": False}

    async def receive() -> dict[str, Any]:
        return message

    async def read() -> None:
        await reader.read(SCOPE, receive, max_bytes=2**17)

    async def hold() -> None:
        memory.resize(ADDRESS, "kcbert", 0, len(BODY))
        memory.resize(ADDRESS, "kcbert", len(BODY), 0)

    async def know_the_client() -> None:
        group_of(clients.of_scope(SCOPE))

    print("| part | µs CPU per request |\n|---|---|")
    nothing = await microseconds(receive)
    measured = {"reading of the body": read, "memory for it": hold, "the client": know_the_client}
    for name, part in measured.items():
        print(f"| {name} | {await microseconds(part) - nothing:.2f} |")


async def microseconds(call: Callable[[], Awaitable[object]]) -> float:
    """The shortest of five measurements of one call."""
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(CALLS):
            await call()
        found.append((time.process_time() - began) / CALLS * 1e6)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=4, help="how often both services are started")
    parser.add_argument("--rounds", type=int, default=5, help="of each pair of services, for each number of clients")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=10, help="exit with 1 if the limits cost more microseconds per request")
    given = parser.parse_args()
    uvloop.run(parts())
    print("\n| clients | with limits, µs CPU per request | without | difference |\n|---|---|---|---|")
    too_much = False
    for clients, pairs in measure(given.services, given.rounds, given.seconds).items():
        limited, unlimited = (statistics.median(side) for side in zip(*pairs, strict=True))
        difference = Difference.of([one - other for one, other in pairs])
        print(f"| {clients} | {limited:.1f} | {unlimited:.1f} | {difference} |")
        too_much |= difference.median > given.most
    sys.exit(too_much)


def measure(services: int, rounds: int, seconds: float) -> dict[int, list[tuple[float, float]]]:
    """By number of clients, the rounds: what a request took the gateway with limits and without."""
    found: dict[int, list[tuple[float, float]]] = {clients: [] for clients in CLIENTS}
    for _ in range(services):
        with noop_service("benchmarks.noop") as limited, noop_service("benchmarks.unlimited") as unlimited:
            for clients, of_clients in found.items():
                for _ in range(rounds):
                    one, other = (cpu_per_request(served, clients, seconds)[0] for served in (limited, unlimited))
                    of_clients.append((one, other))
    return found


if __name__ == "__main__":
    main()
