from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import GenerationError, Target
from bunriwiki.model_store.writer import StoreWriter, open_writer

MakeVersion = Callable[..., Path]
NOW = datetime.now(UTC)


def target(version: str) -> Target:
    return Target(version=version, since=NOW, source="a test", by="operator")


def serve(writer: StoreWriter, version: str) -> None:
    writer.prepare("yolo", target(version))
    writer.activate("yolo", target(version), workers=2)


def kinds(writer: StoreWriter) -> list[str]:
    return [event.kind for event in writer.history.read()]


def test_a_missing_generation_file_is_not_replaced_by_a_new_one(tmp_path: Path, make_version: MakeVersion) -> None:
    root = tmp_path / "store"
    with open_writer(root, "the first") as writer:
        writer.publish(make_version("yolo", "v1"), "a test", "poll")
        serve(writer, "v1")
    (root / "generation.yaml").unlink()
    with pytest.raises(GenerationError, match="is missing, though versions have served"), open_writer(root, "the second"):
        pass


def test_what_a_dead_writer_left_is_deleted_or_recorded(tmp_path: Path, make_version: MakeVersion) -> None:
    root = tmp_path / "store"
    with open_writer(root, "the first") as writer:
        writer.publish(make_version("yolo", "v1"), "a test", "poll")
        layout = writer.layout
        # As if it had died in several steps at once:
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
        assert [(event.kind, event.version, event.reason) for event in writer.history.read()] == [
            ("published", "v1", "found in the store"),
            ("activated", "v1", "found in generation.yaml"),
            ("abandoned", "v9", "its writer ended before it was prepared"),
        ]
        assert writer.generations().of("yolo").preparing is None
    with open_writer(root, "the third") as writer:
        assert kinds(writer) == ["published", "activated", "abandoned"]


def test_an_unfinished_rollback_holds_nothing(tmp_path: Path, make_version: MakeVersion) -> None:
    with open_writer(tmp_path / "store", "the first") as writer:
        for version in ("v1", "v2"):
            writer.publish(make_version("yolo", version), "a test", "poll")
            serve(writer, version)
        writer.change(lambda old: old.hold("yolo", "v0", "v2"))
    with open_writer(tmp_path / "store", "the second") as writer:
        assert writer.generations().of("yolo").held == ("v0",)


def test_an_activation_without_any_other_record_is_recorded(tmp_path: Path) -> None:
    with open_writer(tmp_path / "store", "the first") as writer:
        writer.change(lambda old: old.activate("yolo", target("v1")).pin("kcbert", pinned=True))
    with open_writer(tmp_path / "store", "the second") as writer:
        assert [(event.kind, event.model, event.generation) for event in writer.history.read()] == [("activated", "yolo", 1)]


def test_the_activations_of_another_model_do_not_count(tmp_path: Path) -> None:
    with open_writer(tmp_path / "store", "the first") as writer:
        writer.record_activation("yolo", writer.change(lambda old: old.activate("yolo", target("v1"))).of("yolo"))
        writer.change(lambda old: old.activate("kcbert", target("v1")))
    with open_writer(tmp_path / "store", "the second") as writer:
        assert [(event.kind, event.model) for event in writer.history.read()][1:] == [("activated", "kcbert")]
