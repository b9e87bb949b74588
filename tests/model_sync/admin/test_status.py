from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.commands import Commands
from model_sync.admin.status import StoreReader, StoreStatus
from model_sync.errors import CommandError

MakeVersion = Callable[..., Path]


@pytest.fixture
def reader(writer: StoreWriter, make_version: MakeVersion) -> StoreReader:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version, "x" * 1000), "s3://bucket", "poll")
        promote(writer, "yolo", version, "s3://bucket", "poll")
    return StoreReader(writer.layout)


def test_a_store_that_is_not_there_has_nothing_and_is_not_made(tmp_path: Path) -> None:
    status = StoreReader(Layout(tmp_path / "none")).status()
    assert [(one.model, one.serving, one.versions, one.workers) for one in status.models] == [
        (model, None, (), ()) for model in ("yolo", "kcbert", "sentiment")
    ]
    assert status.sidecar is None
    assert StoreReader(Layout(tmp_path / "none")).history() == []
    assert not (tmp_path / "none").exists()


def test_the_status_says_what_serves_and_what_lies_on_disk(reader: StoreReader, writer: StoreWriter) -> None:
    Commands(writer).rollback("yolo")
    Commands(writer).quarantine("yolo", "v1", "it is slow")
    yolo = reader.status().models[0]
    assert yolo.serving
    assert (yolo.serving.version, yolo.previous, yolo.held, yolo.pinned) == ("v2", None, ("v3",), False)
    assert [one.version for one in yolo.versions] == ["v3", "v2", "v1"]
    assert all(1000 < one.bytes < 5000 for one in yolo.versions)
    assert [(one.version, one.reason) for one in yolo.quarantined] == [("v1", "it is slow")]


def test_the_status_says_what_each_worker_serves(reader: StoreReader, writer: StoreWriter) -> None:
    for role, name in (("yolo", "one"), ("kcbert", "two")):
        writer.heartbeats.write(Heartbeat(worker=name, pid=1, parent=1, role=role, state="ready", serving="v2", rss=5))
    yolo, kcbert, sentiment = reader.status().models
    assert [(one.worker, one.serving, one.rss) for one in yolo.workers] == [("one", "v2", 5)]
    assert [one.worker for one in kcbert.workers] == ["two"]
    assert sentiment.workers == ()


def test_the_status_says_what_the_sidecar_found(reader: StoreReader) -> None:
    found = ModelSync(source="s3://bucket", status="unreachable", reason="it cannot be reached")
    SyncState(since=datetime.now(UTC), models={"yolo": found}, problems=["SQS: no queue"]).write(reader.layout.sync)
    status = reader.status()
    assert status.sidecar
    assert (status.sidecar.alive, status.sidecar.problems) == (True, ("SQS: no queue",))
    assert [one.sync for one in status.models] == [found, None, None]


def test_the_status_is_read_back_from_its_json(reader: StoreReader) -> None:
    status = reader.status()
    assert StoreStatus.model_validate_json(status.model_dump_json()) == status


def test_the_history_has_the_last_events_the_oldest_first(reader: StoreReader) -> None:
    assert [(event.kind, event.version) for event in reader.history("yolo", last=3)] == [
        ("activated", "v2"), ("published", "v3"), ("activated", "v3"),
    ]  # fmt: skip
    assert len(reader.history()) == 6
    assert reader.history("kcbert") == []
    with pytest.raises(CommandError, match="no model 'resnet'"):
        reader.history("resnet")


def test_a_generation_file_that_cannot_be_read_is_told(reader: StoreReader) -> None:
    reader.layout.generation.write_text("models: [")
    with pytest.raises(CommandError, match=r"generation\.yaml cannot be followed"):
        reader.status()
