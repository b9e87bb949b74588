from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import GenerationError, Generations, Target

SINCE = datetime(2026, 11, 22, 15, 0, 0, 123456, tzinfo=UTC)


def target(version: str) -> Target:
    return Target(version=version, since=SINCE, source="s3://bucket/yolo/v1", by="sqs")


def test_no_file_means_that_nothing_is_aspired(tmp_path: Path) -> None:
    assert Generations.read(tmp_path / "generation.yaml").of("yolo").generation == 0


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "generation.yaml"
    written = Generations().prepare("yolo", target("v1")).activate("yolo", target("v1")).pin("yolo", pinned=True)
    written.write(path)
    assert Generations.read(path) == written
    assert path.read_text().startswith("# Which version of each model serves.")


def test_a_flip_counts_and_remembers() -> None:
    one = Generations().prepare("yolo", target("v1"))
    assert one.of("yolo").generation == 0
    assert one.of("yolo").preparing == target("v1")
    two = one.activate("yolo", target("v1")).prepare("yolo", target("v2"))
    three = two.pin("yolo", pinned=True).activate("yolo", target("v2")).of("yolo")
    assert (three.generation, three.serving, three.previous, three.preparing, three.pinned) == (
        2, target("v2"), target("v1"), None, True,
    )  # fmt: skip
    assert two.prepare("yolo", None).of("yolo").preparing is None
    assert two.of("kcbert").generation == 0  # models do not touch each other


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
def test_a_file_that_does_not_fit_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "generation.yaml"
    path.write_text(text)
    with pytest.raises(GenerationError, match=r"generation\.yaml cannot be followed"):
        Generations.read(path)


def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "generation.yaml").mkdir()
    with pytest.raises(GenerationError, match="cannot be read"):
        Generations.read(tmp_path / "generation.yaml")
