from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.handlers.startup import FirstSync
from bunriwiki.protocols.handlers.status import Status
from bunriwiki.testing.paths import MODELS as BUNDLED
from bunriwiki.testing.versions import BUNDLED_VERSION

pytestmark = pytest.mark.anyio


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "store")
    layout.create()
    return layout


def beat(layout: Layout, role: str, start: int, **fields: Any) -> None:
    given = {"parent": os.getppid(), "state": "ready", **fields}
    Heartbeats(layout.run).write(Heartbeat(worker=f"{role}-host-7-{start:x}", pid=7, role=role, **given))


async def scrape(layout: Layout) -> dict[str, dict[tuple[str, ...], float]]:
    """By metric and the values of its labels."""
    values = layout.root.parent / "metrics"
    values.mkdir(exist_ok=True)
    watcher = GenerationWatcher(layout, {model: BUNDLED / model for model in MODELS})
    status = Status(layout, watcher, 1, FirstSync(layout.sync, 60, expected=False, started=0), MODELS)
    text = await Scrape(values, status, {"gateway": 1, **dict.fromkeys(MODELS, 2)}, "0.1.0").text()
    families = text_string_to_metric_families(text.decode())
    return {family.name: {tuple(one.labels.values()): one.value for one in family.samples} for family in families}


def activate(layout: Layout, *versions: str) -> None:
    now = Generations()
    for version in versions:
        now = now.activate("yolo", Target(version=version, since=datetime(2026, 11, 22, tzinfo=UTC), source="here", by="sqs"))
    now.write(layout.generation)


async def test_workers(layout: Layout) -> None:
    beat(layout, "gateway", 1, rss_bytes=10)
    beat(layout, "yolo", 0x20, rss_bytes=20, number=0)
    beat(layout, "yolo", 0x10, rss_bytes=30, number=1, state="starting")
    beat(layout, "yolo", 0x30, parent=1)  # of another service
    found = await scrape(layout)
    assert found["bunriwiki_workers"] == {("gateway",): 1, ("yolo",): 1, ("kcbert",): 0, ("sentiment",): 0}
    assert found["bunriwiki_workers_expected"] == {("gateway",): 1, ("yolo",): 2, ("kcbert",): 2, ("sentiment",): 2}
    assert found["bunriwiki_worker_memory_bytes"] == {("gateway", "0"): 10, ("yolo", "0"): 20, ("yolo", "1"): 30}


async def test_a_replacement_has_the_number_of_the_dead_worker(layout: Layout) -> None:
    beat(layout, "yolo", 0x10, rss_bytes=10, number=0)
    beat(layout, "yolo", 0x20, rss_bytes=20, number=1)
    beat(layout, "yolo", 0x30, rss_bytes=30, number=0)
    assert (await scrape(layout))["bunriwiki_worker_memory_bytes"] == {("yolo", "0"): 30, ("yolo", "1"): 20}


async def test_a_runner_cannot_make_up_numbers(layout: Layout) -> None:
    for number in range(100):
        beat(layout, "yolo", 0x100 + number, number=number)
    assert len((await scrape(layout))["bunriwiki_worker_memory_bytes"]) == 2 * 2


async def test_the_fallback_serves(layout: Layout) -> None:
    found = await scrape(layout)
    zeros, ones = {(model,): 0.0 for model in MODELS}, {(model,): 1.0 for model in MODELS}
    assert found["bunriwiki_generation"] == found["bunriwiki_worker_generation_lag"] == zeros
    assert found["bunriwiki_fallback_in_use"] == found["bunriwiki_model_degraded"] == ones  # a registry feeds it
    assert found["model_version_info"] == {(model, BUNDLED_VERSION): 1 for model in MODELS}


async def test_generations(layout: Layout) -> None:
    activate(layout, "v1", "v2", "v3")
    beat(layout, "yolo", 1, serving="v3", generation=3, loaded={"v3": "available"})
    assert (await scrape(layout))["bunriwiki_worker_generation_lag"][("yolo",)] == 0
    beat(layout, "yolo", 2, serving="v1", generation=1, loaded={"v1": "available"})
    beat(layout, "yolo", 3, serving=BUNDLED_VERSION, generation=3, loaded={BUNDLED_VERSION: "available"})
    found = await scrape(layout)
    assert found["bunriwiki_generation"][("yolo",)] == 3
    assert found["bunriwiki_worker_generation_lag"][("yolo",)] == 2
    assert found["bunriwiki_fallback_in_use"][("yolo",)] == 1
    assert found["model_version_info"][("yolo", "v1")] == 1
    Heartbeats(layout.run).forget("yolo-host-7-2")
    assert (await scrape(layout))["bunriwiki_worker_generation_lag"][("yolo",)] == 1  # it answers with another version
    Heartbeats(layout.run).forget("yolo-host-7-3")
    assert (await scrape(layout))["bunriwiki_fallback_in_use"][("yolo",)] == 0


async def test_the_event_loop_runs_on_during_a_scrape(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    answered = asyncio.run_coroutine_threadsafe
    waited: list[bool] = []

    def slow(_: Status) -> list[Heartbeat]:
        loop.call_soon_threadsafe(reached.set)
        waited.append(answered(asyncio.wait_for(reached.wait(), 5), loop).result(5))
        return []

    monkeypatch.setattr(Status, "workers", slow)
    await scrape(layout)
    assert waited == [True]
