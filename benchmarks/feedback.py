"""What feedback tickets cost the gateway: its CPU time per request with them and without, side by side.

python -m benchmarks.feedback

Two services with the no-op model (`noop.py`), which get the same requests in turns over one connection each.
"""

from __future__ import annotations

import argparse
import socket
import statistics
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.lean import REQUEST, parse
from benchmarks.noop_service import noop_service
from benchmarks.resident import role
from benchmarks.serving import Served

ROUNDS = 20
REQUESTS = 1000  # of a round


def cpu_seconds(process: int) -> float:
    """The time that all threads of a process were on a CPU, exact to a nanosecond (proc(5): schedstat)."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def gateway(server: Served) -> int:
    """The process id of the gateway."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return next(child.pid for child in children if role(child.cmdline()) == "gateway")


def answer(connection: socket.socket) -> bytes:
    connection.sendall(REQUEST)
    received = b""
    while (answered := parse(received)) is None:
        received += connection.recv(65536)
    if answered[0] != 200:
        raise SystemExit(f"a request was answered with {answered[0]}")
    return received


def microseconds(server: Served, process: int) -> float:
    """Of the gateway's CPU time, for one request of a round."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        answer(connection)
        began = cpu_seconds(process)
        for _ in range(REQUESTS):
            answer(connection)
        return 1e6 * (cpu_seconds(process) - began) / REQUESTS


def show(name: str, found: Sequence[float]) -> None:
    low, _, high = statistics.quantiles(found, n=4)
    print(f"| {name} | {statistics.median(found):.1f} | {low:.1f} to {high:.1f} |", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with noop_service() as without, noop_service(settings={"BUNRIWIKI_FEEDBACK_KEY": "k" * 64}) as with_tickets:
        servers = [(server, gateway(server)) for server in (without, with_tickets)]
        for server, process in servers:
            microseconds(server, process)  # to warm up
        for server, wanted in ((without, False), (with_tickets, True)):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                if (b"x-feedback-ticket" in answer(connection).lower()) != wanted:
                    raise SystemExit("the services do not differ in their tickets")
        rounds = [[microseconds(server, process) for server, process in servers] for _ in range(ROUNDS)]
    print("| gateway, µs of CPU per request | median | middle half |\n|---|---|---|")
    show("without tickets", [off for off, _ in rounds])
    show("with tickets", [on for _, on in rounds])
    show("difference, round by round", [on - off for off, on in rounds])


if __name__ == "__main__":
    main()
