from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.status import read_status
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.commands import Commands
from model_sync.admin.status import StoreReader
from model_sync.errors import CommandError

MakeVersion = Callable[..., Path]


@pytest.fixture
def reader(writer: StoreWriter, make_version: MakeVersion) -> StoreReader:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "s3://bucket", "poll")
        promote(writer, "yolo", version, "s3://bucket", "poll")
    return StoreReader(writer.layout)


def test_a_missing_store_is_empty_and_is_not_created(tmp_path: Path) -> None:
    reader = StoreReader(Layout(tmp_path / "none"))
    assert [model.serving for model in reader.status().models] == [None, None, None]
    assert reader.history() == []
    assert not (tmp_path / "none").exists()


def test_the_status_after_commands(reader: StoreReader, writer: StoreWriter) -> None:
    Commands(writer).rollback("yolo")
    Commands(writer).quarantine("yolo", "v1", "it is slow")
    status = reader.status()
    assert status == read_status(writer.layout)
    yolo = status.models[0]
    assert yolo.serving
    assert (yolo.serving.version, yolo.previous, yolo.held, yolo.pinned) == ("v2", None, ("v3",), False)
    assert [(entry.version, entry.reason) for entry in yolo.quarantined] == [("v1", "it is slow")]


def test_the_history_has_the_last_events_oldest_first(reader: StoreReader) -> None:
    assert [(event.kind, event.version) for event in reader.history("yolo", last=3)] == [
        ("activated", "v2"), ("published", "v3"), ("activated", "v3"),
    ]  # fmt: skip
    assert len(reader.history()) == 6
    assert reader.history("kcbert") == []
    with pytest.raises(CommandError, match="no model 'resnet'"):
        reader.history("resnet")


def test_an_invalid_generation_file_is_reported(reader: StoreReader) -> None:
    reader.layout.generation.write_text("models: [")
    with pytest.raises(CommandError, match=r"generation\.yaml is not valid") as caught:
        reader.status()
    assert caught.value.kind == "failed"
