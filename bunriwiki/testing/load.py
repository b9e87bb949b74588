"""A load of parallel clients, each with one connection that it keeps open, and a count of what came of every request."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

from bunriwiki.testing.calls import Call, mixed_calls

TIMEOUT = 60.0  # seconds that a client waits for an answer


@dataclass
class Outcome:
    """What came of the requests.

    `counts` has a status (`200`, `503`, ...) or `refused` (no connection), `closed` (the connection ended before the answer),
    `timeout`. `latencies` are the seconds that the answered requests took.
    """

    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """The latency in seconds that `share` of the answered requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def summary(self) -> dict[str, object]:
        return {
            "counts": dict(self.counts),
            "requests_per_second": round(len(self.latencies) / self.seconds, 1),
            "p50_ms": round(1000 * self.percentile(0.5), 1),
            "p99_ms": round(1000 * self.percentile(0.99), 1),
            "max_ms": round(1000 * self.percentile(1), 1),
        }


async def run_load(
    url: str,
    calls: Sequence[Call],
    *,
    clients: int,
    seconds: float,
    keep_alive: bool = True,
    pause: float = 0.0,
    until: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Send `calls` in turn from `clients` clients for `seconds`, or until `until` returns true.

    A client waits `pause` seconds between an answer and its next request.
    """
    outcome = Outcome()
    started = time.perf_counter()

    async def client(number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=not keep_alive)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        first = number % len(calls)
        own_calls = itertools.cycle([*calls[first:], *calls[:first]])
        async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
            while time.perf_counter() - started < seconds and not until():
                await send(session, next(own_calls))
                await asyncio.sleep(pause)

    async def send(session: aiohttp.ClientSession, call: Call) -> None:
        began = time.perf_counter()
        try:
            async with session.post(call.path, data=call.body, headers={"Content-Type": call.media_type}) as response:
                await response.read()
            outcome.counts[str(response.status)] += 1
            outcome.latencies.append(time.perf_counter() - began)
        except aiohttp.ClientConnectorError:
            outcome.counts["refused"] += 1
            await asyncio.sleep(0.05)
        except (aiohttp.ClientError, ConnectionError):
            outcome.counts["closed"] += 1
        except TimeoutError:
            outcome.counts["timeout"] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.seconds = time.perf_counter() - started
    return outcome


@contextmanager
def background_load(url: str, clients: int = 8, pause: float = 0.0) -> Iterator[Outcome]:
    """`run_load` with requests of all kinds as long as the block lasts. The outcome is complete when the block has ended."""
    outcome = Outcome()
    over = threading.Event()

    def run() -> None:
        load = run_load(url, mixed_calls(), clients=clients, seconds=float("inf"), pause=pause, until=over.is_set)
        found = asyncio.run(load)
        outcome.counts.update(found.counts)
        outcome.latencies.extend(found.latencies)
        outcome.seconds = found.seconds

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        over.set()
        thread.join()
