from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.startup import FirstSync
from bunriwiki.protocols.handlers.status import ModelState, Status
from tests.conftest import MODELS as SHIPPED

SINCE = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def status(layout: Layout, *, expected: bool = False) -> Status:
    first_sync = FirstSync(layout.sync, 60, expected=expected, started=0)
    return Status(
        layout, GenerationWatcher(layout, {model: SHIPPED / model for model in MODELS}), workers=1, first_sync=first_sync
    )


def beat(layout: Layout, worker: str, **fields: Any) -> None:
    parent = fields.pop("parent", os.getppid())
    told = {"state": "ready", "serving": "v2", "loaded": {"v2": "available"}, **fields}
    Heartbeats(layout.run).write(Heartbeat(worker=worker, pid=7, parent=parent, role="yolo", **told))


def activate(layout: Layout, *versions: str) -> None:
    now = Generations()
    for version in versions:
        now = now.activate("yolo", Target(version=version, since=SINCE, source="s3://bucket", by="sqs"))
    now.write(layout.generation)


def yolo(layout: Layout) -> ModelState:
    [one] = [one for one in status(layout).models().models if one.name == "yolo"]
    return one


def test_what_serves_and_what_served(layout: Layout) -> None:
    activate(layout, "v1", "v2")
    beat(layout, "one", generation=2, rss=5)
    one = yolo(layout)
    assert (one.serving, one.previous, one.generation, one.source, one.by, one.since) == (
        "v2", "v1", 2, "s3://bucket", "sqs", SINCE,
    )  # fmt: skip
    assert (one.degraded, one.reasons) == (False, [])
    [worker] = one.workers
    assert (worker.name, worker.serving, worker.generation, worker.rss) == ("one", "v2", 2, 5)
    assert worker.seconds_since_heard < 5


def test_why_it_is_degraded(layout: Layout) -> None:
    assert yolo(layout).reasons == [
        "fallback: no version of the store serves, the one that the repository ships does", "0 of 1 workers are ready",
    ]  # fmt: skip
    activate(layout, "v2")
    beat(layout, "one", serving="v1", errors={"v2": "no space left"}, loaded={"v1": "available"})
    assert yolo(layout).reasons == ["one answers with v1", "one could not load v2: no space left"]
    beat(layout, "one", state="starting", serving=None)
    assert yolo(layout).degraded


def test_one_for_what_serves_and_zero_for_what_does_not(layout: Layout) -> None:
    activate(layout, "v1", "v2")
    layout.version("yolo", "v0").mkdir(parents=True)
    assert status(layout).serving()["yolo"] == {"fallback-2": False, "v0": False, "v1": False, "v2": True}
    beat(layout, "elsewhere", serving="v0", parent=1)  # another service that shares the store
    beat(layout, "here", serving="v1")
    assert status(layout).serving()["yolo"] == {"fallback-2": False, "v0": False, "v1": True}
    assert status(layout).serving()["kcbert"] == {"fallback-2": True}


def test_a_registry_that_cannot_be_reached_is_a_reason(layout: Layout) -> None:
    activate(layout, "v1")
    beat(layout, "one", serving="v1", loaded={"v1": "available"})
    sync = ModelSync(source="s3://bucket", looked=SINCE, status="unreachable", reason="it cannot be reached")
    SyncState(since=SINCE, models={"yolo": sync}, problems=["SQS: denied"]).write(layout.sync)
    one = yolo(layout)
    assert (one.reasons, one.sync) == (["s3://bucket: it cannot be reached"], sync)
    assert status(layout).models().sync_problems == ["SQS: denied"]


def test_a_version_that_was_rejected_is_told_and_does_not_degrade(layout: Layout) -> None:
    activate(layout, "v1")
    beat(layout, "one", serving="v1", loaded={"v1": "available"})
    sync = ModelSync(source="s3://bucket", looked=SINCE, status="rejected", version="v2", reason="it is slow")
    SyncState(since=SINCE, models={"yolo": sync}).write(layout.sync)
    assert (yolo(layout).degraded, yolo(layout).sync) == (False, sync)


def test_a_sidecar_that_should_be_there_and_is_not_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    says = ["no sidecar runs: no new version comes. Its log says why"]
    assert status(layout, expected=True).models().sync_problems == says
    SyncState(since=SINCE, models={}).write(layout.sync)
    assert status(layout, expected=True).models().sync_problems == []
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert status(layout, expected=True).models().sync_problems == says


def test_a_sidecar_that_was_here_once_is_no_matter(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = ModelSync(source="s3://bucket", looked=SINCE, status="unreachable", reason="it cannot be reached")
    SyncState(since=SINCE, models={"yolo": sync}, problems=["SQS: denied"]).write(layout.sync)
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert (yolo(layout).sync, status(layout).models().sync_problems) == (None, [])
