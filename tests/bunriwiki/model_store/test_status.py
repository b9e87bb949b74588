from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import GenerationError, Target
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import StoreStatus, WorkerStatus, read_status
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.model_store.writer import StoreWriter

MakeVersion = Callable[..., Path]
NOW = datetime.now(UTC)


@pytest.fixture
def layout(writer: StoreWriter, make_version: MakeVersion) -> Layout:
    """A store in which v1, v2 and v3 of yolo served, one after the other."""
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version, "x" * 1000), "s3://bucket", "poll")
        promote(writer, "yolo", version, "s3://bucket", "poll")
    return writer.layout


def test_a_missing_store_is_empty_and_is_not_created(tmp_path: Path) -> None:
    status = read_status(Layout(tmp_path / "none"))
    assert [(model.name, model.serving, model.versions, model.workers) for model in status.models] == [
        (name, None, (), ()) for name in ("yolo", "kcbert", "sentiment")
    ]
    assert status.sidecar is None
    assert not (tmp_path / "none").exists()


def test_the_versions_that_serve_and_that_are_on_disk(layout: Layout, writer: StoreWriter) -> None:
    writer.change(lambda old: old.hold("yolo", "v2").pin("yolo", pinned=True))
    writer.put_in_quarantine(Quarantined(model="yolo", version="v1", digest="abc", reason="it is slow", at=NOW), "operator")
    yolo = read_status(layout).models[0]
    assert yolo.serving
    assert yolo.previous
    assert (yolo.generation, yolo.serving.version, yolo.previous.version, yolo.preparing) == (3, "v3", "v2", None)
    assert (yolo.held, yolo.pinned) == (("v2",), True)
    assert [stored.version for stored in yolo.versions] == ["v3", "v2", "v1"]
    assert all(1000 < stored.size_bytes < 5000 for stored in yolo.versions)
    assert all(abs((stored.published_at - NOW).total_seconds()) < 600 for stored in yolo.versions)
    assert [(entry.version, entry.reason) for entry in yolo.quarantined] == [("v1", "it is slow")]


def test_an_empty_quarantine_file_is_shown_with_what_to_do(layout: Layout) -> None:
    damaged = layout.quarantine / "yolo" / "v1.yaml"
    damaged.parent.mkdir(parents=True)
    damaged.touch()
    [entry] = read_status(layout).models[0].quarantined
    assert entry.version == "v1"
    assert "cannot be read" in entry.reason


def test_a_version_that_is_deleted_meanwhile_is_left_out(layout: Layout) -> None:
    (layout.version("yolo", "v2") / "model.yaml").unlink()
    assert [stored.version for stored in read_status(layout).models[0].versions] == ["v3", "v1"]


def test_the_workers_of_each_model(layout: Layout, writer: StoreWriter) -> None:
    for role, name in (("yolo", "one"), ("kcbert", "two"), ("gateway", "three")):
        writer.heartbeats.write(Heartbeat(worker=name, pid=1, parent=1, role=role, state="ready", serving="v2", rss_bytes=5))
    yolo, kcbert, sentiment = read_status(layout).models
    assert [(worker.name, worker.serving, worker.rss_bytes) for worker in yolo.workers] == [("one", "v2", 5)]
    assert [worker.name for worker in kcbert.workers] == ["two"]
    assert sentiment.workers == ()


def test_a_subclass_adds_fields_to_the_status_of_a_worker() -> None:
    class Local(WorkerStatus):
        here: bool

    assert Local.of(Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready"), here=True).here


def test_the_version_that_is_being_prepared(layout: Layout, writer: StoreWriter) -> None:
    writer.prepare("yolo", Target(version="v1", since=NOW, source="s3://bucket", by="poll"))
    yolo = read_status(layout).models[0]
    assert yolo.serving
    assert yolo.preparing
    assert (yolo.serving.version, yolo.preparing.version) == ("v3", "v1")


def test_the_age_of_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready", at=100.0)
    monkeypatch.setattr("bunriwiki.model_store.status.time.time", lambda: 101.26)
    assert WorkerStatus.of(heartbeat).heartbeat_age_seconds == 1.3
    monkeypatch.setattr("bunriwiki.model_store.status.time.time", lambda: 99.0)  # the clock of another host is ahead
    assert WorkerStatus.of(heartbeat).heartbeat_age_seconds == 0


def test_the_last_syncs(layout: Layout) -> None:
    sync = ModelSync(source="s3://bucket", status="unreachable", reason="it cannot be reached")
    SyncState(since=NOW, models={"yolo": sync}, problems=["SQS: no queue"]).write(layout.sync)
    status = read_status(layout)
    assert status.sidecar
    assert (status.sidecar.alive, status.sidecar.problems) == (True, ("SQS: no queue",))
    assert [model.sync for model in status.models] == [sync, None, None]


def test_the_status_is_read_back_from_its_json(layout: Layout) -> None:
    status = read_status(layout)
    assert StoreStatus.model_validate_json(status.model_dump_json()) == status
    assert json.loads(status.model_dump_json())["models"][0]["serving"].keys() == {"version", "since", "source", "by"}


def test_an_invalid_generation_file_raises(layout: Layout) -> None:
    layout.generation.write_text("models: [")
    with pytest.raises(GenerationError, match=r"generation\.yaml is not valid"):
        read_status(layout)
