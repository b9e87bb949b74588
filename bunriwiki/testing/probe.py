"""A client that sends requests at a steady rate and records the latency of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from bunriwiki.testing.calls import mixed_calls


@dataclass
class Probe:
    """What came of the requests.

    `counts` is by status or exception; `latencies` has, for each answered request, the time of `time.monotonic()` at which it
    was sent and the seconds that it took.
    """

    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def p99(self, begin: float, end: float) -> float:
        """The 99th percentile, in seconds, of the requests sent between two times of `time.monotonic()`."""
        found = sorted(seconds for sent, seconds in self.latencies if begin <= sent < end)
        return found[int(0.99 * len(found))]


@contextmanager
def probing(url: str, every: float = 0.1) -> Iterator[Probe]:
    """Requests of all kinds as long as the block lasts, `every` seconds after the answer before."""
    probe = Probe()
    over = threading.Event()

    def run() -> None:
        calls = itertools.cycle(mixed_calls())
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.wait(every):
                call = next(calls)
                sent = time.monotonic()
                try:
                    answer = client.post(call.path, content=call.body, headers={"Content-Type": call.media_type})
                except httpx.TransportError as error:
                    probe.counts[repr(error)] += 1
                else:
                    probe.counts[str(answer.status_code)] += 1
                    probe.latencies.append((sent, time.monotonic() - sent))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield probe
    finally:
        over.set()
        thread.join()
