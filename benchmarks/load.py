"""A load of parallel clients, each with one connection that it keeps open, and a count of what came of every request.

python -m benchmarks.load --url http://127.0.0.1:3000 --clients 64 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

SAMPLES = Path(__file__).parent.parent / "tests" / "data"
PATIENCE = 60.0  # seconds that a client waits for an answer


@dataclass(frozen=True)
class Call:
    """A request that is sent again and again."""

    path: str
    body: bytes
    media_type: str


@dataclass
class Outcome:
    """What came of the requests.

    `counts` has a status (`200`, `503`, ...) or `rejected` (no connection), `closed` (the connection ended before the answer),
    `timeout`. `latencies` are the seconds of the answered ones.
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


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mixed_calls() -> list[Call]:
    """Photos, comments and reviews from the test data, in turn."""
    photos = [Call("/yolo/prediction", path.read_bytes(), "image/jpeg") for path in sorted(SAMPLES.glob("photos/*.jpg"))]
    texts = (SAMPLES / "texts.txt").read_text(encoding="utf-8").splitlines()
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    comments = [Call("/kcbert/prediction", body, "application/json") for body in bodies]
    reviews = [Call("/predict", body, "application/json") for body in bodies]
    return [call for three in zip(itertools.cycle(photos), comments, reviews, strict=False) for call in three]


async def run_load(
    url: str,
    calls: Sequence[Call],
    *,
    clients: int,
    seconds: float,
    keep_alive: bool = True,
    until: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Send `calls` in turn from `clients` clients for `seconds`, or until `until` says so."""
    outcome = Outcome()
    started = time.perf_counter()

    async def client(number: int) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=not keep_alive)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        first = number % len(calls)
        turns = itertools.cycle([*calls[first:], *calls[:first]])
        async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
            while time.perf_counter() - started < seconds and not until():
                await send(session, next(turns))

    async def send(session: aiohttp.ClientSession, call: Call) -> None:
        begun = time.perf_counter()
        try:
            async with session.post(call.path, data=call.body, headers={"Content-Type": call.media_type}) as response:
                await response.read()
            outcome.counts[str(response.status)] += 1
            outcome.latencies.append(time.perf_counter() - begun)
        except aiohttp.ClientConnectorError:
            outcome.counts["rejected"] += 1
            await asyncio.sleep(0.05)
        except (aiohttp.ClientError, ConnectionError):
            outcome.counts["closed"] += 1
        except TimeoutError:
            outcome.counts["timeout"] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.seconds = time.perf_counter() - started
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="", help="only the calls of this path")
    given = parser.parse_args()
    calls = [call for call in mixed_calls() if given.only in ("", call.path)]
    outcome = asyncio.run(run_load(given.url, calls, clients=given.clients, seconds=given.seconds))
    print(json.dumps(outcome.summary(), indent=2))


if __name__ == "__main__":
    main()
