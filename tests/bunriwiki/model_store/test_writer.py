from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import NotPublishedError, StoreWriter, SupersededError, open_writer

MakeVersion = Callable[..., Path]
NOW = datetime.now(UTC)


def target(version: str) -> Target:
    return Target(version=version, since=NOW, source="a test", by="operator")


def serve(writer: StoreWriter, version: str) -> None:
    writer.prepare("yolo", target(version))
    writer.activate("yolo", target(version), workers=2)


def kinds(writer: StoreWriter) -> list[str]:
    return [event.kind for event in writer.history.read()]


def test_changes_are_recorded_in_the_history(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "s3://bucket", "sqs")
        serve(writer, version)
    writer.put_in_quarantine(Quarantined(model="yolo", version="v3", digest="abc", reason="too slow", at=NOW), "poll")
    assert writer.quarantine.find("yolo", "v3") == writer.quarantine.all()[0]
    assert writer.release("yolo", "v3", "operator")
    assert not writer.release("yolo", "v3", "operator")
    assert writer.quarantine.all() == []
    assert kinds(writer) == [
        "published", "activated", "published", "activated", "quarantined", "released",
    ]  # fmt: skip
    last = [event for event in writer.history.read("yolo") if event.kind == "activated"][-1]
    assert (last.version, last.previous, last.generation, last.workers, last.by) == ("v2", "v1", 2, 2, "operator")


def test_a_second_writer_is_rejected(writer: StoreWriter) -> None:
    with pytest.raises(StoreLockedError, match="a test"), open_writer(writer.layout.root, "another"):
        pass


def test_old_versions_are_deleted_and_needed_versions_kept(tmp_path: Path, make_version: MakeVersion) -> None:
    with open_writer(tmp_path / "store", "a test", keep=2) as writer:
        for number in range(6):
            writer.publish(make_version("yolo", f"v{number}"), "a test", "poll")
            if number == 0:
                serve(writer, "v0")
            if number == 1:
                loaded = {"v1": "unloading"}
                writer.heartbeats.write(Heartbeat(worker="w", pid=1, parent=1, role="yolo", state="ready", loaded=loaded))
        assert sorted(writer.layout.versions("yolo")) == ["v0", "v1", "v4", "v5"]
        assert [event.version for event in writer.history.read() if event.kind == "removed"] == ["v2", "v3"]
        # A version that was deleted can be published again.
        writer.publish(make_version("yolo", "v2"), "a test", "poll")
        assert [event.version for event in writer.history.read() if event.kind == "published"][-1] == "v2"


def test_only_a_published_version_outside_quarantine_is_prepared(writer: StoreWriter, make_version: MakeVersion) -> None:
    with pytest.raises(NotPublishedError, match="not in the store"):
        writer.prepare("yolo", target("v1"))
    writer.publish(make_version("yolo", "v1"), "a test", "poll")
    writer.put_in_quarantine(Quarantined(model="yolo", version="v1", digest="abc", reason="too slow", at=NOW), "poll")
    with pytest.raises(NotPublishedError, match="in quarantine: too slow"):
        writer.prepare("yolo", target("v1"))


def test_only_the_version_that_is_prepared_is_activated(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        writer.prepare("yolo", target(version))
    with pytest.raises(SupersededError):
        writer.activate("yolo", target("v1"), workers=0)
    writer.abandon("yolo", target("v1"), "superseded")
    assert writer.generations().of("yolo").preparing == target("v2")


def test_a_version_in_quarantine_does_not_become_the_previous_version(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    serve(writer, "v1")
    serve(writer, "v2")
    writer.put_in_quarantine(Quarantined(model="yolo", version="v2", digest="abc", reason="wrong", at=NOW), "monitor")
    serve(writer, "v3")
    previous = writer.generations().of("yolo").previous
    assert previous
    assert previous.version == "v1"


def test_a_held_version_does_not_become_the_previous_version(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        serve(writer, version)
    writer.change(lambda old: old.hold("yolo", "v3"))
    serve(writer, "v1")
    now = writer.generations().of("yolo")
    assert now.previous
    assert (now.previous.version, now.held) == ("v2", ("v3",))


def test_the_serving_version_is_not_held(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    writer.change(lambda old: old.hold("yolo", "v1", "v2"))
    serve(writer, "v2")
    assert writer.generations().of("yolo").held == ("v1",)
