"""Promotions under load, with two workers per runner: no failed request, no wrong answer, no return to an old version."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.calls import Call, mixed_calls
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.rotation import agree, rotated_answer
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL, PAUSE_SECONDS, ROTATIONS

pytestmark = pytest.mark.alone

SWAPS = 100 if FULL else 6  # of each model
CLIENTS = 16
AT_ONCE = 1 if FULL else len(MODELS)  # promotions; the full form measures them one by one
STEADY = 30.0 if FULL else 2.0  # seconds without a promotion, at the beginning
COUNTERS = ("model_load_total", "model_load_success_total", "model_hot_swap_total")
PATHS = {"/yolo/prediction": "yolo", "/kcbert/prediction": "kcbert", "/predict": "sentiment"}


@dataclass
class Seen:
    """An answer, as a client saw it. Times are seconds of the wall clock."""

    client: int
    model: str
    version: str
    sent: float
    received: float


@dataclass
class VerifyingLoad:
    """Clients that send calls and check every answer against `expected`, by call and version."""

    url: str
    expected: dict[tuple[Call, str], dict[str, Any]]
    calls: Sequence[Call]
    seen: list[Seen] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        calls = itertools.cycle([*self.calls[number:], *self.calls[:number]])
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as session:
            while not self.over.is_set():
                call = next(calls)
                sent = time.time()
                try:
                    async with session.post(call.path, data=call.body, headers={"Content-Type": call.media_type}) as response:
                        body = await response.read()
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self.failed[repr(error)] += 1
                    continue
                if response.status != 200:
                    self.failed[f"{response.status} {body.decode()}"] += 1
                    continue
                version = response.headers["X-Model-Version"]
                if not agree(json.loads(body), self.expected[call, version]):
                    self.wrong.append(f"{call.path} by {version}: {body.decode()} instead of {self.expected[call, version]}")
                self.seen.append(Seen(number, PATHS[call.path], version, sent, time.time()))
                await asyncio.sleep(PAUSE_SECONDS)


def expectations(url: str) -> tuple[list[Call], dict[tuple[Call, str], dict[str, Any]]]:
    """Calls, and what each version should answer to them, derived from the answers of the fallback versions."""
    calls = mixed_calls()[:48]
    expected = {}
    for call in calls:
        answer = CLIENT.post(url + call.path, content=call.body, headers={"Content-Type": call.media_type}).json()
        for version, rotation in {BUNDLED_VERSION: 0, **ROTATIONS}.items():
            expected[call, version] = rotated_answer(PATHS[call.path], answer, rotation)
    return calls, expected


def runner_memory(server: Server) -> int:
    """The resident bytes of all runner workers."""
    return sum(worker.memory_info().rss for name, worker in server.all_workers() if name in MODELS)


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(0.99 * (len(latencies) - 1))]


def returns(seen: list[Seen], activations: dict[str, list[tuple[float, str]]]) -> list[str]:
    """Where an old version answered a request that was sent more than a second after the client had seen the new version."""
    found = []
    newest: dict[tuple[int, str], tuple[int, float]] = {}  # the newest generation that a client saw, and since when
    for answer in sorted(seen, key=lambda answer: answer.received):
        known = [
            number
            for number, (at, version) in enumerate(activations[answer.model])
            if version == answer.version and at <= answer.received
        ]
        generation = max(known, default=-1)
        before, since = newest.get((answer.client, answer.model), (-1, 0.0))
        if generation > before:
            newest[answer.client, answer.model] = (generation, answer.received)
        elif generation < before and answer.sent > since + 1:
            found.append(f"client {answer.client}: {answer.model}:{answer.version} after generation {before}")
    return found


def test_promotions_under_load(pair: Server, store: StoreWriter) -> None:
    server = pair
    calls, expected = expectations(server.url)
    load = VerifyingLoad(server.url, expected, calls)
    thread = threading.Thread(target=load.run)
    thread.start()
    activations: dict[str, list[tuple[float, str]]] = defaultdict(list)
    memory: dict[int, int] = {}

    def swap(model: str, version: str) -> None:
        def note(step: str) -> None:
            if step == "prepared":  # the activation follows immediately
                activations[model].append((time.time(), version))

        assert promote(store, model, version, "a test", "operator", progress=note) == 2
        time.sleep(0.5)

    try:
        time.sleep(2)
        began = time.time()
        time.sleep(STEADY)
        steady = (began, time.time())
        for number in range(1, SWAPS + 1):
            version = f"v{(number - 1) % 3 + 1}"
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(swap, MODELS, [version] * len(MODELS)))
            if FULL and number in (10, SWAPS):
                time.sleep(4)  # for the old versions to be unloaded
                memory[number] = runner_memory(server)
    finally:
        load.over.set()
        thread.join()
    for model in MODELS:
        server.wait_until_serving(model, version)
    swaps = {model: sum(event.workers or 0 for event in store.history.read(model)) for model in MODELS}

    calm = [answer.received - answer.sent for answer in load.seen if steady[0] <= answer.sent and answer.received <= steady[1]]
    around = [
        answer.received - answer.sent
        for answer in load.seen
        if any(abs(answer.received - at) <= 0.5 for at, _ in activations[answer.model])
    ]
    print(
        f"{SWAPS} promotions of each model, {len(load.seen)} answers, p99 {1000 * p99(calm):.0f} ms steady, "
        f"{1000 * p99(around):.0f} ms in the second around a promotion; MB of the runners, by number of promotions: "
        f"{ {number: round(rss / 2**20) for number, rss in memory.items()} }"
    )
    assert not load.failed
    assert not load.wrong
    assert not returns(load.seen, activations)
    assert {answer.version for answer in load.seen} == {BUNDLED_VERSION, *ROTATIONS}
    # Each worker loads once at its start and once per promotion: the counters agree with the history.
    assert swaps == dict.fromkeys(MODELS, 2 * SWAPS)
    loads = {model: number + 2 for model, number in swaps.items()}
    expected_counts = dict(zip(COUNTERS, (loads, loads, swaps), strict=True))

    def counts() -> dict[str, dict[str, float]]:
        return {name: {model: server.metric(name, model=model) for model in MODELS} for name in COUNTERS}

    wait_until(lambda: counts() == expected_counts, describe=counts)
    if FULL:  # the short form has too few answers for a 99th percentile, and too few promotions for a trend
        assert p99(around) <= 2 * p99(calm)
        assert memory[SWAPS] <= 1.05 * memory[10]
