"""Made-up paths: what they leave in the gateway's memory and in `/metrics`.

python -m benchmarks.labels
"""

from __future__ import annotations

import argparse
import socket
from dataclasses import dataclass

import httpx

from benchmarks.noop_service import noop_service
from benchmarks.resident import resident

LONG, LONG_BYTES = 200, 60_000
SHORT = 10_000


@dataclass(frozen=True)
class Look:
    """The gateway's resident memory, and the size of what `/metrics` answers, both in MB."""

    memory: float
    metrics: float


def look(parent: int, port: int) -> Look:
    # The scrape first: what it leaves in memory is part of what the paths cost.
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=120)
    return Look(resident(parent)["gateway"], len(answer.raise_for_status().content) / 2**20)


def send(port: int, paths: list[str]) -> None:
    """A GET for each path, in turn over one connection. httpx would reject the long ones."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as answers:
        for path in paths:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            status = answers.readline()
            if b" 404 " not in status:
                raise SystemExit(f"a made-up path got {status!r}")
            length = 0
            while (header := answers.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            answers.read(length)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| made-up paths | gateway, MB | /metrics, MB |\n|---|---|---|", flush=True)
    with noop_service() as (server, port):
        show("at the start", look(server.pid, port))
        send(port, [f"/{number:04d}{'x' * LONG_BYTES}" for number in range(LONG)])
        show(f"after {LONG} paths of {LONG_BYTES // 1000} KB", look(server.pid, port))
        send(port, [f"/made/up/{number}" for number in range(SHORT)])
        show(f"after {SHORT} short paths more", look(server.pid, port))


def show(name: str, seen: Look) -> None:
    print(f"| {name} | {seen.memory:.1f} | {seen.metrics:.3f} |", flush=True)


if __name__ == "__main__":
    main()
