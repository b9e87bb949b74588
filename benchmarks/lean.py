"""A load generator that costs little: a fixed request over HTTP/1.1 keep-alive connections, without garbage collection.

Every answer must have the status 200 and exactly the body of the first answer. The result is a line of JSON.

    python -m benchmarks.lean --port 3000 --clients 16 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import uvloop

from benchmarks.histogram import Histogram

PATH = "/kcbert/prediction"
BODY = json.dumps({"text": "오늘 날씨가 좋네요"}).encode()
REQUEST = (
    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (PATH.encode(), len(BODY), BODY)
)  # fmt: skip
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TICK = 0.005  # seconds between two readings of the generator's own clock
END_SECONDS = 60.0  # seconds to wait for outstanding answers at the end


class BadResponseError(Exception):
    """A response that this client cannot read."""


def parse(received: bytes | bytearray) -> tuple[int, bytes] | None:
    """Status and body of a whole response with a Content-Length; None if it is incomplete. Raises BadResponseError."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end])
    length = LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.1 "):
        raise BadResponseError(head[:200])
    whole = end + 4 + int(length[1])
    if len(received) > whole:
        raise BadResponseError("more than one response to one request")
    return (int(head[9:12]), bytes(received[end + 4 :])) if len(received) == whole else None


@dataclass
class Load:
    """What came of a load. Times are in milliseconds.

    `failures` are counted by kind: a status, `body` (not that of the first answer), `closed`, `unreadable`, `unanswered`.
    `own_stall` is how late the generator's own timer was at worst: the latency of an answer may be too high by that.
    """

    requests: int
    seconds: float
    failures: dict[str, int]
    p50: float
    p99: float
    p999: float
    slowest: float
    own_stall: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


class _LoadStatistics:
    """Shared by the connections of a load."""

    def __init__(self) -> None:
        self.latencies = Histogram()
        self.failures: Counter[str] = Counter()
        self.body: bytes | None = None
        self.running = True

    def record(self, status: int, body: bytes, nanoseconds: int) -> None:
        self.latencies.add(nanoseconds)
        if status != 200:
            self.failures[str(status)] += 1
        elif self.body is None:
            self.body = body
        elif body != self.body:
            self.failures["body"] += 1


class _Connection(asyncio.Protocol):
    """A client: sends, waits for the answer, sends again."""

    def __init__(self, statistics: _LoadStatistics, ended: asyncio.Future[None]) -> None:
        self._statistics = statistics
        self._ended = ended
        self._received = bytearray()
        self._began = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter_ns()
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            response = parse(self._received)
        except BadResponseError:
            self._end("unreadable")
            return
        if response is None:
            return
        self._received.clear()
        self._statistics.record(*response, time.perf_counter_ns() - self._began)
        if self._statistics.running:
            self._send()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._end("closed")

    def _end(self, failure: str | None = None) -> None:
        if not self._ended.done():
            if failure:
                self._statistics.failures[failure] += 1
            self._ended.set_result(None)
            self._transport.close()


async def run(port: int, *, clients: int, seconds: float, requests: int = 0) -> Load:
    """Load 127.0.0.1:`port` for `seconds`, and longer until there are `requests` answers."""
    loop = asyncio.get_running_loop()
    statistics = _LoadStatistics()
    ended: list[asyncio.Future[None]] = [loop.create_future() for _ in range(clients)]
    began = time.perf_counter()
    for future in ended:
        await loop.create_connection(partial(_Connection, statistics, future), "127.0.0.1", port)
    own_stall, last = 0.0, time.perf_counter()
    while not all(future.done() for future in ended):
        if last - began >= seconds and statistics.latencies.count >= requests:
            break
        await asyncio.sleep(TICK)
        now = time.perf_counter()
        own_stall, last = max(own_stall, now - last - TICK), now
    statistics.running = False
    _, outstanding = await asyncio.wait(ended, timeout=END_SECONDS)
    statistics.failures["unanswered"] += len(outstanding)
    latencies = statistics.latencies
    return Load(
        requests=latencies.count,
        seconds=time.perf_counter() - began,
        failures=dict(+statistics.failures),
        p50=latencies.milliseconds(0.5),
        p99=latencies.milliseconds(0.99),
        p999=latencies.milliseconds(0.999),
        slowest=latencies.slowest / 1e6,
        own_stall=own_stall * 1000,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=0, help="continue until there are this many answers")
    given = parser.parse_args()
    gc.collect()
    gc.freeze()
    gc.disable()
    load = uvloop.run(run(given.port, clients=given.clients, seconds=given.seconds, requests=given.requests))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
