from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.public_status import PublicStatus
from bunriwiki.protocols.handlers.startup import FirstSync
from bunriwiki.protocols.handlers.status import ServiceModelStatus, Status
from bunriwiki.testing.paths import MODELS as BUNDLED
from bunriwiki.testing.versions import BUNDLED_VERSION

SINCE = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def status(layout: Layout, *, expected: bool = False, registered: Collection[str] = MODELS) -> Status:
    first_sync = FirstSync(layout.sync, 60, expected=expected, started=0)
    watcher = GenerationWatcher(layout, {model: BUNDLED / model for model in MODELS})
    return Status(layout, watcher, workers=1, first_sync=first_sync, registered=registered)


def serving(layout: Layout) -> dict[str, dict[str, bool]]:
    one = status(layout)
    return one.serving(one.workers())


def beat(layout: Layout, worker: str, **fields: Any) -> None:
    parent = fields.pop("parent", os.getppid())
    given = {"state": "ready", "serving": "v2", "loaded": {"v2": "available"}, **fields}
    Heartbeats(layout.run).write(Heartbeat(worker=worker, pid=7, parent=parent, role="yolo", **given))


def activate(layout: Layout, *versions: str) -> None:
    now = Generations()
    for version in versions:
        now = now.activate("yolo", target(version))
    now.write(layout.generation)


def target(version: str) -> Target:
    return Target(version=version, since=SINCE, source="s3://bucket", by="sqs")


def yolo(layout: Layout) -> ServiceModelStatus:
    [model] = [model for model in status(layout).models().models if model.name == "yolo"]
    return model


def test_the_serving_and_the_previous_version(layout: Layout) -> None:
    activate(layout, "v1", "v2")
    beat(layout, "one", generation=2, rss_bytes=5)
    model = yolo(layout)
    assert (model.serving, model.previous, model.generation) == (target("v2"), target("v1"), 2)
    assert (model.serving_version, model.fallback) == ("v2", BUNDLED_VERSION)
    assert (model.degraded, model.reasons) == (False, ())
    [worker] = model.workers
    assert (worker.name, worker.serving, worker.generation, worker.rss_bytes) == ("one", "v2", 2, 5)
    assert worker.heartbeat_age_seconds < 5


def test_the_workers_of_this_service_and_of_others(layout: Layout) -> None:
    beat(layout, "elsewhere", parent=1)
    beat(layout, "here")
    assert [(worker.name, worker.here) for worker in yolo(layout).workers] == [("elsewhere", False), ("here", True)]


def test_the_fallback_version_serves_until_a_version_is_promoted(layout: Layout) -> None:
    model = yolo(layout)
    assert (model.serving, model.serving_version) == (None, BUNDLED_VERSION)


def test_reasons_for_being_degraded(layout: Layout) -> None:
    assert yolo(layout).reasons == (
        "fallback: no version from the store serves, so the bundled fallback model does", "0 of 1 workers are ready",
    )  # fmt: skip
    activate(layout, "v2")
    beat(layout, "one", serving="v1", errors={"v2": "no space left"}, loaded={"v1": "available"})
    assert yolo(layout).reasons == ("one answers with v1", "one could not load v2: no space left")
    beat(layout, "one", state="starting", serving=None)
    assert yolo(layout).degraded


@pytest.mark.parametrize(("by", "who"), [("monitor", "the rollout monitor"), ("operator", "an operator")])
def test_a_decision_for_the_fallback_is_shown_with_the_name_that_answers_carry(layout: Layout, by: Any, who: str) -> None:
    decided = target(FALLBACK).model_copy(update={"by": by})
    Generations().activate("yolo", target("v1")).activate("yolo", decided).write(layout.generation)
    beat(layout, "one", serving=BUNDLED_VERSION, loaded={BUNDLED_VERSION: "available"})
    model = yolo(layout)
    assert model.serving
    assert (model.serving.version, model.serving.by, model.generation) == (BUNDLED_VERSION, by, 2)
    assert (model.serving_version, model.fallback) == (BUNDLED_VERSION, BUNDLED_VERSION)
    assert model.reasons == (f"fallback: {who} went back to the bundled fallback model",)
    Generations().activate("yolo", decided).activate("yolo", target("v2")).write(layout.generation)
    previous = yolo(layout).previous
    assert previous
    assert previous.version == BUNDLED_VERSION


def test_the_public_view_names_no_process_host_or_file(layout: Layout) -> None:
    secrets = ("/home/somebody", "host-of-mine", "7654321", "yolo-host-of-mine-7654321-1")
    path, host, process, worker = secrets
    activate(layout, "v1", "v2")
    error = f"no space left: {path}"
    Heartbeats(layout.run).write(
        Heartbeat(
            worker=worker, host=host, pid=int(process), parent=1, role="yolo", number=1, state="ready", serving="v1",
            loaded={"v1": "available"}, errors={"v2": error},
        )
    )  # fmt: skip
    sync = ModelSync(source=path, synced_at=SINCE, status="failed", reason=error, findings=[error], rollout=worker)
    SyncState(since=SINCE, models={"yolo": sync}, problems=[f"SQS: {host}"]).write(layout.sync)
    one = status(layout).models()
    public = PublicStatus.of(one).model_dump_json()
    assert [secret for secret in secrets if secret not in one.model_dump_json()] == []
    assert [secret for secret in secrets if secret in public] == []
    [model] = [model for model in PublicStatus.of(one).models if model.name == "yolo"]
    assert model.reasons == (
        "a worker of another service answers with v1",
        "a worker of another service could not load v2",
        "0 of 1 workers are ready",
        "the last sync with its registry: failed",
    )
    assert [(found.number, found.serving, found.here) for found in model.workers] == [(1, "v1", False)]
    assert (model.serving and model.serving.version, model.degraded) == ("v2", True)


def test_the_public_view_calls_a_worker_by_its_number(layout: Layout) -> None:
    activate(layout, "v2")
    beat(layout, "one", serving="v1", number=1, loaded={"v1": "available"})
    [model] = [model for model in PublicStatus.of(status(layout).models()).models if model.name == "yolo"]
    assert model.reasons == ("worker 1 answers with v1",)


def test_a_model_without_a_registry_is_meant_to_serve_its_bundled_version(layout: Layout) -> None:
    beat(layout, "one", serving=BUNDLED_VERSION, loaded={BUNDLED_VERSION: "available"})
    [model] = [model for model in status(layout, registered=["kcbert"]).models().models if model.name == "yolo"]
    assert (model.serving, model.fallback, model.degraded) == (None, BUNDLED_VERSION, False)


def test_the_versions_that_this_service_answers_with(layout: Layout) -> None:
    activate(layout, "v1", "v2")
    layout.version("yolo", "v0").mkdir(parents=True)
    assert serving(layout)["yolo"] == {BUNDLED_VERSION: False, "v0": False, "v1": False, "v2": True}
    beat(layout, "elsewhere", serving="v0", parent=1)  # another service that shares the store
    beat(layout, "here", serving="v1")
    assert serving(layout)["yolo"] == {BUNDLED_VERSION: False, "v0": False, "v1": True}
    assert serving(layout)["kcbert"] == {BUNDLED_VERSION: True}


def test_an_unreachable_registry_is_a_reason(layout: Layout) -> None:
    activate(layout, "v1")
    beat(layout, "one", serving="v1", loaded={"v1": "available"})
    sync = ModelSync(source="s3://bucket", synced_at=SINCE, status="unreachable", reason="it cannot be reached")
    SyncState(since=SINCE, models={"yolo": sync}, problems=["SQS: denied"]).write(layout.sync)
    model = yolo(layout)
    assert (model.reasons, model.sync) == (("s3://bucket: it cannot be reached",), sync)
    assert status(layout).models().problems == ("SQS: denied",)


def test_a_rejected_version_is_shown_and_does_not_degrade(layout: Layout) -> None:
    activate(layout, "v1")
    beat(layout, "one", serving="v1", loaded={"v1": "available"})
    sync = ModelSync(source="s3://bucket", synced_at=SINCE, status="rejected", version="v2", reason="it is slow")
    SyncState(since=SINCE, models={"yolo": sync}).write(layout.sync)
    assert (yolo(layout).degraded, yolo(layout).sync) == (False, sync)


def test_a_missing_sidecar_is_a_problem_if_it_is_expected(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = ("the sidecar does not run, so no new version will be served; its log says why",)
    assert status(layout, expected=True).models().problems == problems
    SyncState(since=SINCE, models={}).write(layout.sync)
    assert status(layout, expected=True).models().problems == ()
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert status(layout, expected=True).models().problems == problems


def test_a_sidecar_that_is_no_longer_configured_is_ignored(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = ModelSync(source="s3://bucket", synced_at=SINCE, status="unreachable", reason="it cannot be reached")
    SyncState(since=SINCE, models={"yolo": sync}, problems=["SQS: denied"]).write(layout.sync)
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert (yolo(layout).sync, status(layout).models().problems) == (None, ())
