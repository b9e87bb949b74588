from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.artifacts.golden_inputs import golden_photos, golden_texts
from bunriwiki.artifacts.reference import read_reference_photos, read_reference_texts
from bunriwiki.testing.paths import MODELS
from model_sync.evaluation.reference_set import ReferenceSet


def test_unlabelled_texts_cover_every_class_and_reveal_none(tmp_path: Path) -> None:
    ReferenceSet.read("kcbert", MODELS / "kcbert").write_unlabelled(tmp_path)
    labels = {sample.text: sample.label for sample in read_reference_texts(MODELS / "kcbert")}
    written = golden_texts(tmp_path)
    assert len(written) == 64
    assert {labels[text] for text in written} == set(labels.values())
    assert {sample.label for sample in read_reference_texts(tmp_path)} == {""}
    assert sorted(written) == sorted(golden_texts(MODELS / "kcbert"))
    assert written != golden_texts(MODELS / "kcbert")  # in another order


def test_unlabelled_photos_have_neither_labels_nor_their_names(tmp_path: Path) -> None:
    ReferenceSet.read("yolo", MODELS / "yolo").write_unlabelled(tmp_path)
    samples = read_reference_photos(tmp_path)
    assert all(not sample.objects for sample in samples)
    assert not [sample.image for sample in samples if any(name in sample.image for name in ("glass", "paper", "metal"))]
    there = {path.read_bytes() for path in golden_photos(MODELS / "yolo")}
    assert {path.read_bytes() for path in golden_photos(tmp_path)} == there


def test_the_inputs_of_a_text_set_are_its_texts() -> None:
    reference = ReferenceSet.read("kcbert", MODELS / "kcbert")
    assert reference.inputs(range(1, 3)) == [sample.text for sample in reference.truth[1:3]]  # type: ignore[union-attr]


@pytest.mark.parametrize("model", ["yolo", "kcbert", "sentiment"])
def test_the_bundled_sets_can_be_read(model: str) -> None:
    assert len(ReferenceSet.read(model, MODELS / model).truth) >= 200
