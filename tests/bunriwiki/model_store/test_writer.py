from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import GenerationError, Target
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


def test_what_it_does_is_in_the_history(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "s3://bucket", "sqs")
        serve(writer, version)
    writer.pin("yolo", pinned=True, by="operator")
    writer.pin("yolo", pinned=False, by="operator")
    writer.put_in_quarantine(Quarantined(model="yolo", version="v3", digest="abc", reason="too slow", at=NOW), "poll")
    assert writer.quarantine.find("yolo", "v3") == writer.quarantine.all()[0]
    assert writer.release("yolo", "v3", "operator")
    assert not writer.release("yolo", "v3", "operator")
    assert writer.quarantine.all() == []
    assert kinds(writer) == [
        "published", "activated", "published", "activated", "pinned", "unpinned", "quarantined", "released",
    ]  # fmt: skip
    last = [event for event in writer.history.read("yolo") if event.kind == "activated"][-1]
    assert (last.version, last.previous, last.generation, last.workers, last.by) == ("v2", "v1", 2, 2, "operator")


def test_only_one_at_a_time(writer: StoreWriter) -> None:
    with pytest.raises(StoreLockedError, match="a test"), open_writer(writer.layout.root, "another"):
        pass


def test_garbage_is_collected_and_what_is_needed_stays(tmp_path: Path, make_version: MakeVersion) -> None:
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
        # A version that was removed can be published again.
        writer.publish(make_version("yolo", "v2"), "a test", "poll")
        assert [event.version for event in writer.history.read() if event.kind == "published"][-1] == "v2"


def test_what_is_not_published_cannot_serve(writer: StoreWriter, make_version: MakeVersion) -> None:
    with pytest.raises(NotPublishedError, match="not in the store"):
        writer.prepare("yolo", target("v1"))
    writer.publish(make_version("yolo", "v1"), "a test", "poll")
    writer.put_in_quarantine(Quarantined(model="yolo", version="v1", digest="abc", reason="too slow", at=NOW), "poll")
    with pytest.raises(NotPublishedError, match="in quarantine: too slow"):
        writer.prepare("yolo", target("v1"))


def test_only_what_is_prepared_goes_live(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        writer.prepare("yolo", target(version))
    with pytest.raises(SupersededError):
        writer.activate("yolo", target("v1"), workers=0)
    writer.abandon("yolo", target("v1"), "superseded")
    assert writer.generations().of("yolo").preparing == target("v2")


def test_a_version_in_quarantine_is_no_last_known_good_one(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    serve(writer, "v1")
    serve(writer, "v2")
    writer.put_in_quarantine(Quarantined(model="yolo", version="v2", digest="abc", reason="wrong", at=NOW), "monitor")
    serve(writer, "v3")
    previous = writer.generations().of("yolo").previous
    assert previous
    assert previous.version == "v1"


def test_a_lost_generation_file_is_not_begun_anew(tmp_path: Path, make_version: MakeVersion) -> None:
    root = tmp_path / "store"
    with open_writer(root, "the first") as writer:
        writer.publish(make_version("yolo", "v1"), "a test", "poll")
        serve(writer, "v1")
    (root / "generation.yaml").unlink()
    with pytest.raises(GenerationError, match="is missing, though versions have served"), open_writer(root, "the second"):
        pass


def test_what_a_dead_writer_left_is_tidied(tmp_path: Path, make_version: MakeVersion) -> None:
    root = tmp_path / "store"
    with open_writer(root, "the first") as writer:
        writer.publish(make_version("yolo", "v1"), "a test", "poll")
        layout = writer.layout
        # It died in the middle of everything:
        (layout.staging / "yolo-v2-abc").mkdir()
        (layout.models / "kcbert").mkdir()
        (layout.models / "sentiment").mkdir()
        (layout.models / "sentiment" / "latest").write_text("BentoML's own")
        (root / ".generation.yaml.abc").write_text("half a fi")
        writer.change(lambda old: old.activate("yolo", target("v1")).prepare("yolo", target("v9")))
        (root / ".yatai.yaml").write_text("BentoML's own")
        layout.history.write_text("")
    with open_writer(root, "the second") as writer:
        assert list(layout.staging.iterdir()) == []
        assert not (layout.models / "kcbert").exists()
        assert [path.name for path in root.glob(".*")] == [".yatai.yaml"]
        assert kinds(writer) == ["published", "activated", "abandoned"]
        assert writer.generations().of("yolo").preparing is None
    with open_writer(root, "the third") as writer:
        assert kinds(writer) == ["published", "activated", "abandoned"]


def test_a_version_that_a_rollback_left_is_no_last_known_good_one(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        serve(writer, version)
    writer.change(lambda old: old.hold("yolo", "v3"))
    serve(writer, "v1")
    now = writer.generations().of("yolo")
    assert now.previous
    assert (now.previous.version, now.held) == ("v2", ("v3",))


def test_what_serves_is_not_held(writer: StoreWriter, make_version: MakeVersion) -> None:
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    writer.change(lambda old: old.hold("yolo", "v1", "v2"))
    serve(writer, "v2")
    assert writer.generations().of("yolo").held == ("v1",)


def test_a_rollback_that_a_dead_writer_began_holds_nothing(tmp_path: Path, make_version: MakeVersion) -> None:
    with open_writer(tmp_path / "store", "the first") as writer:
        for version in ("v1", "v2"):
            writer.publish(make_version("yolo", version), "a test", "poll")
            serve(writer, version)
        writer.change(lambda old: old.hold("yolo", "v0", "v2"))
    with open_writer(tmp_path / "store", "the second") as writer:
        assert writer.generations().of("yolo").held == ("v0",)
