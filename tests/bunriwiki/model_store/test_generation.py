from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Canary, CancelledImport, GenerationError, Generations, Target

SINCE = datetime(2026, 11, 22, 15, 0, 0, 123456, tzinfo=UTC)


def target(version: str) -> Target:
    return Target(version=version, since=SINCE, source="s3://bucket/yolo/v1", by="sqs")


def test_without_a_file_nothing_serves(tmp_path: Path) -> None:
    assert Generations.read(tmp_path / "generation.yaml").of("yolo").generation == 0


def test_the_file_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "generation.yaml"
    written = Generations().prepare("yolo", target("v1")).activate("yolo", target("v1")).pin("yolo", pinned=True)
    written.write(path)
    assert Generations.read(path) == written
    assert path.read_text().startswith("# Which version of each model serves.")


def test_an_activation_counts_and_keeps_the_previous_version() -> None:
    first = Generations().prepare("yolo", target("v1"))
    assert first.of("yolo").generation == 0
    assert first.of("yolo").preparing == target("v1")
    second = first.activate("yolo", target("v1")).prepare("yolo", target("v2"))
    third = second.pin("yolo", pinned=True).activate("yolo", target("v2")).of("yolo")
    assert (third.generation, third.serving, third.previous, third.preparing, third.pinned) == (
        2, target("v2"), target("v1"), None, True,
    )  # fmt: skip
    assert second.prepare("yolo", None).of("yolo").preparing is None
    assert second.of("kcbert").generation == 0  # models are independent


@pytest.mark.parametrize(
    "text",
    [
        "models: [",
        "models: {yolo: {generation: -1}}",
        "models: {yolo: {generation: 1}}",
        "format: 2",
        "models: {yolo: {generation: 0, serving: {version: V1}}}",
        "surprise: true",
        "\x00",
    ],
)
def test_an_invalid_file_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "generation.yaml"
    path.write_text(text)
    with pytest.raises(GenerationError, match=r"generation\.yaml is not valid"):
        Generations.read(path)


def test_an_unreadable_file_does_not_count_as_missing(tmp_path: Path) -> None:
    (tmp_path / "generation.yaml").mkdir()
    with pytest.raises(GenerationError, match="cannot be read"):
        Generations.read(tmp_path / "generation.yaml")


def test_the_decisions_of_operators_outlast_other_activations() -> None:
    cancelled = CancelledImport(version="v4", digest="d4")
    decided = Generations().activate("yolo", target("v1")).hold("yolo", "v2").pause("yolo", "v3").cancel("yolo", cancelled)
    kept = decided.activate("yolo", target("v0")).of("yolo")
    assert (kept.held, kept.paused, kept.cancelled) == (("v2",), "v3", cancelled)
    promoted = decided.activate("yolo", target("v3")).of("yolo")
    assert (promoted.held, promoted.paused) == (("v2",), None)
    lifted = decided.activate("yolo", target("v5"), lifts_holds=True).of("yolo")
    assert (lifted.held, lifted.paused, lifted.cancelled) == ((), None, None)


def test_a_pause_outlasts_the_end_of_the_canary(tmp_path: Path) -> None:
    began = Generations().activate("yolo", target("v1")).prepare("yolo", target("v2")).start_canary("yolo", Canary(share=0.1))
    ended = began.pause("yolo", "v2").prepare("yolo", None)
    ended.write(tmp_path / "generation.yaml")
    again = Generations.read(tmp_path / "generation.yaml").of("yolo")
    assert (again.paused, again.preparing, again.canary) == ("v2", None, None)
