"""Swaps under load, with two workers per runner: no failed request, no wrong version, no way back, no growth."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx

from benchmarks.load import Call, mixed_calls
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from tests.integration.conftest import FULL, Server
from tests.versions import TURNS, agree, turned_answer

SWAPS = 100 if FULL else 8
CLIENTS = 16
STEADY = 30.0 if FULL else 8.0  # seconds
COUNTERS = ("model_load_total", "model_load_success_total", "model_hot_swap_total")
PATHS = {"/yolo/prediction": "yolo", "/kcbert/prediction": "kcbert", "/predict": "sentiment"}


@dataclass
class Seen:
    """One answer, as a client saw it. Times are seconds of the wall clock."""

    client: int
    model: str
    version: str
    sent: float
    came: float


@dataclass
class RolloutMonitor:
    """Clients that send calls all the time and look at every answer."""

    url: str
    expected: dict[tuple[Call, str], dict[str, Any]]
    calls: Sequence[Call]
    seen: list[Seen] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: bool = False

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number: int) -> None:
        turns = itertools.cycle([*self.calls[number:], *self.calls[:number]])
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as session:
            while not self.over:
                call = next(turns)
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
                right = agree(json.loads(body), self.expected[call, version])
                if not right:
                    self.wrong.append(f"{call.path} by {version}: {body.decode()} instead of {self.expected[call, version]}")
                self.seen.append(Seen(number, PATHS[call.path], version, sent, time.time()))


def probes(url: str) -> tuple[list[Call], dict[tuple[Call, str], dict[str, Any]]]:
    """Calls, and what each version answers to them, going by what the shipped ones answer."""
    calls = mixed_calls()[:48]
    expected = {}
    for call in calls:
        answer = httpx.post(url + call.path, content=call.body, headers={"Content-Type": call.media_type}).json()
        for version, turn in TURNS.items():
            expected[call, version] = turned_answer(PATHS[call.path], answer, turn)
    return calls, expected


def runner_memory(server: Server) -> int:
    """The resident bytes of all runner workers."""
    return sum(worker.memory_info().rss for name, worker in server.all_workers() if name in MODELS)


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(0.99 * (len(latencies) - 1))]


def ways_back(seen: list[Seen], activations: dict[str, list[tuple[float, str]]]) -> list[str]:
    """Where a client saw an old version later than a second after it had seen the new one."""
    found = []
    newest: dict[tuple[int, str], tuple[int, float]] = {}  # the newest generation that a client saw, and since when
    for one in sorted(seen, key=lambda one: one.came):
        known = [
            number for number, (at, version) in enumerate(activations[one.model]) if version == one.version and at <= one.came
        ]
        generation = max(known, default=-1)
        before, since = newest.get((one.client, one.model), (-1, 0.0))
        if generation > before:
            newest[one.client, one.model] = (generation, one.came)
        elif generation < before and one.sent > since + 1:
            found.append(f"client {one.client}: {one.model}:{one.version} after generation {before}")
    return found


def test_swaps_under_load(pair: Server, store: StoreWriter) -> None:
    server = pair
    calls, expected = probes(server.url)
    watch = RolloutMonitor(server.url, expected, calls)
    load = threading.Thread(target=watch.run)
    load.start()
    activations: dict[str, list[tuple[float, str]]] = defaultdict(list)
    memory: dict[int, int] = {}
    try:
        time.sleep(2)
        begun = time.time()
        time.sleep(STEADY)
        steady = (begun, time.time())
        for number in range(1, SWAPS + 1):
            version = f"v{(number - 1) % 3 + 1}"
            for model in MODELS:

                def note(step: str, model: str = model, version: str = version) -> None:
                    if step == "prepared":  # the very next thing is the activate
                        activations[model].append((time.time(), version))

                assert promote(store, model, version, "a test", "operator", progress=note) == 2
                time.sleep(0.5)
            if number in (min(10, SWAPS // 2), SWAPS):
                time.sleep(4)  # what served before is unloaded
                memory[number] = runner_memory(server)
    finally:
        watch.over = True
        load.join()
    serving = {one["name"]: one["serving"] for one in httpx.get(f"{server.url}/v1/models").json()["models"]}
    counted = {name: {model: server.metric(name, model=model) for model in MODELS} for name in COUNTERS}
    swaps = {model: sum(event.workers or 0 for event in store.history.read(model)) for model in MODELS}

    calm = [one.came - one.sent for one in watch.seen if steady[0] <= one.sent and one.came <= steady[1]]
    around = [one.came - one.sent for one in watch.seen if any(abs(one.came - at) <= 0.5 for at, _ in activations[one.model])]
    first, last = memory.values()
    print(
        f"{SWAPS} swaps of each model, {len(watch.seen)} answers, p99 {1000 * p99(calm):.0f} ms steady, "
        f"{1000 * p99(around):.0f} ms in the second around a swap; runners {first / 2**20:.0f} -> {last / 2**20:.0f} MB"
    )
    assert not watch.failed
    assert not watch.wrong
    assert not ways_back(watch.seen, activations)
    assert {one.version for one in watch.seen} == set(TURNS)
    assert serving == dict.fromkeys(MODELS, version)
    # Each worker loads once at its start and once per swap: the counters agree with the history.
    assert swaps == dict.fromkeys(MODELS, 2 * SWAPS)
    loads = {model: number + 2 for model, number in swaps.items()}
    assert counted == dict(zip(COUNTERS, (loads, loads, swaps), strict=True))
    if FULL:  # too few answers for a 99th percentile otherwise, and too few swaps for a trend
        assert p99(around) <= 2 * p99(calm)
        assert last <= 1.05 * first
