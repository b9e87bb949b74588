"""What requests for unknown paths leave in the gateway's memory and in `/metrics`.

python -m benchmarks.labels
"""

from __future__ import annotations

import argparse
import socket
from dataclasses import dataclass

import httpx

from benchmarks.noop_service import noop_service
from benchmarks.resident import resident
from benchmarks.serving import Served

LONG, LONG_BYTES = 200, 60_000
SHORT = 10_000


@dataclass(frozen=True)
class Footprint:
    """The gateway's resident memory, and the size of the body of `/metrics`, both in MB."""

    memory: float
    metrics: float


def measure(server: Served) -> Footprint:
    # The scrape comes first: what it leaves in memory is part of what the paths cost.
    answer = httpx.get(f"{server.url}/metrics", timeout=120)
    return Footprint(resident(server.process.pid)["gateway"], len(answer.raise_for_status().content) / 2**20)


def send(port: int, paths: list[str]) -> None:
    """Send a GET for each path, one after the other over one connection. httpx would reject the long paths."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as answers:
        for path in paths:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            status = answers.readline()
            if b" 404 " not in status:
                raise SystemExit(f"an unknown path was answered with {status!r}")
            length = 0
            while (header := answers.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            answers.read(length)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| unknown paths | gateway, MB | /metrics, MB |\n|---|---|---|", flush=True)
    with noop_service() as server:
        show("at the start", measure(server))
        send(server.port, [f"/{number:04d}{'x' * LONG_BYTES}" for number in range(LONG)])
        show(f"after {LONG} paths of {LONG_BYTES // 1000} KB", measure(server))
        send(server.port, [f"/unknown/{number}" for number in range(SHORT)])
        show(f"after {SHORT} more short paths", measure(server))


def show(name: str, footprint: Footprint) -> None:
    print(f"| {name} | {footprint.memory:.1f} | {footprint.metrics:.3f} |", flush=True)


if __name__ == "__main__":
    main()
