from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bunriwiki.artifacts.reference import read_reference_photos, read_reference_texts
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.importing.compilers.golden_inputs import golden_photos, golden_texts
from tests.conftest import MODELS


def test_questions_have_every_class_and_tell_none(tmp_path: Path) -> None:
    one = ReferenceSet.read("kcbert", MODELS / "kcbert")
    one.write_questions(tmp_path)
    labels = {sample.text: sample.label for sample in read_reference_texts(MODELS / "kcbert")}
    asked = golden_texts(tmp_path)
    assert len(asked) == 64
    assert Counter(labels[text] for text in asked).keys() == set(labels.values())
    assert {sample.label for sample in read_reference_texts(tmp_path)} == {""}
    assert sorted(asked) == sorted(golden_texts(MODELS / "kcbert"))  # the same, in an order that says nothing
    assert asked != golden_texts(MODELS / "kcbert")


def test_photos_lose_their_names(tmp_path: Path) -> None:
    ReferenceSet.read("yolo", MODELS / "yolo").write_questions(tmp_path)
    samples = read_reference_photos(tmp_path)
    assert all(not sample.objects for sample in samples)
    assert not [sample.image for sample in samples if any(name in sample.image for name in ("glass", "paper", "metal"))]
    there = {path.read_bytes() for path in golden_photos(MODELS / "yolo")}
    assert {path.read_bytes() for path in golden_photos(tmp_path)} == there


def test_texts_are_asked_as_they_are() -> None:
    one = ReferenceSet.read("kcbert", MODELS / "kcbert")
    assert one.inputs(range(1, 3)) == [sample.text for sample in one.truth[1:3]]  # type: ignore[union-attr]


@pytest.mark.parametrize("model", ["yolo", "kcbert", "sentiment"])
def test_the_shipped_sets_can_be_read(model: str) -> None:
    assert len(ReferenceSet.read(model, MODELS / model).truth) >= 200
