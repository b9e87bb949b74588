from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Target, Trigger
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.publication import forced_past, registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import NotPublishedError, StoreWriter, SupersededError, open_writer

MakeVersion = Callable[..., Path]
NOW = datetime.now(UTC)


def target(version: str, by: Trigger = "operator") -> Target:
    return Target(version=version, since=NOW, source="a test", by=by)


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
    *_, activated, quarantined, released = writer.history.read("yolo")
    assert (activated.version, activated.previous, activated.generation, activated.workers) == ("v2", "v1", 2, 2)
    assert (activated.source, activated.by) == ("a test", "operator")
    assert (quarantined.version, quarantined.reason, quarantined.by) == ("v3", "too slow", "poll")
    assert (released.version, released.by) == ("v3", "operator")


def test_a_publication_is_described_in_the_store_and_in_the_history(writer: StoreWriter, make_version: MakeVersion) -> None:
    steps: list[str] = []
    writer.publish(
        make_version("yolo", "v1"),
        "s3://bucket",
        "sqs",
        steps.append,
        digest_there="sha256:abc",
        forced_past="quality",
        seconds={"fetch": 1.5},
    )
    assert (steps[0], steps[-1]) == ("copied", "recorded")
    folder = writer.layout.version("yolo", "v1")
    assert (registry_digest(folder), forced_past(folder)) == ("sha256:abc", "quality")
    [event] = writer.history.read()
    assert (event.kind, event.version, event.source, event.by) == ("published", "v1", "s3://bucket", "sqs")
    assert (event.forced, event.reason, event.seconds) == (True, "quality", {"fetch": 1.5})


def test_a_publication_is_recorded_once(writer: StoreWriter, make_version: MakeVersion) -> None:
    for model in ("yolo", "kcbert", "yolo"):
        writer.publish(make_version(model, "v1"), "a test", "poll")
    assert [(event.kind, event.model) for event in writer.history.read()] == [("published", "yolo"), ("published", "kcbert")]


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
    with pytest.raises(SupersededError, match="yolo:v1 is no longer wanted"):
        writer.activate("yolo", target("v1"), workers=0)
    writer.abandon("yolo", target("v1", "poll"), "superseded")
    assert writer.generations().of("yolo").preparing == target("v2")
    *_, event = writer.history.read("yolo")
    assert (event.kind, event.version, event.source, event.by, event.reason) == (
        "abandoned", "v1", "a test", "poll", "superseded",
    )  # fmt: skip


def test_a_version_serves_since_its_activation(writer: StoreWriter, make_version: MakeVersion) -> None:
    writer.publish(make_version("yolo", "v1"), "a test", "poll")
    before = datetime.now(UTC)
    serve(writer, "v1")
    serving = writer.generations().of("yolo").serving
    assert serving
    assert serving.since >= before > NOW


def test_a_version_that_the_monitor_replaces_does_not_become_the_previous_version(
    writer: StoreWriter, make_version: MakeVersion
) -> None:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    serve(writer, "v1")
    serve(writer, "v2")
    writer.prepare("yolo", target("v3", "monitor"))
    writer.activate("yolo", target("v3", "monitor"), workers=2)
    previous = writer.generations().of("yolo").previous
    assert previous
    assert previous.version == "v1"


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
