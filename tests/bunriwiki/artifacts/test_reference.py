from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.artifacts.reference import (
    PHOTOS,
    ReferenceObject,
    ReferencePhoto,
    ReferenceText,
    copy_reference,
    read_reference_photos,
    read_reference_texts,
    write_reference,
)
from bunriwiki.testing.paths import MODELS

MIN = 200  # samples of a bundled reference set


def test_texts_are_read_as_written(tmp_path: Path) -> None:
    samples = [ReferenceText(text="좋아요", label="긍정"), ReferenceText(text="한 줄\n두 줄", label="부정")]
    write_reference(tmp_path, samples)
    assert read_reference_texts(tmp_path) == samples


def test_photos_are_copied_with_their_labels(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / PHOTOS).mkdir(parents=True)
    target.mkdir()
    (source / PHOTOS / "can.jpg").write_bytes(b"photo")
    sample = ReferencePhoto(image="reference/can.jpg", objects=(ReferenceObject(label="metal", box=(1, 2, 3, 4)),))
    write_reference(source, [sample])
    copy_reference(source, target)
    assert read_reference_photos(target) == [sample]
    assert (target / sample.image).read_bytes() == b"photo"


def test_photos_may_have_a_kind(tmp_path: Path) -> None:
    samples = [ReferencePhoto(image="a.jpg", kind="close-up", objects=()), ReferencePhoto(image="b.jpg", objects=())]
    write_reference(tmp_path, samples)
    assert read_reference_photos(tmp_path) == samples
    lines = (tmp_path / "reference.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[1] == '{"image": "b.jpg", "objects": []}'  # earlier releases reject unknown fields


@pytest.mark.parametrize("kind", ["", "In Context", "x" * 40])
def test_a_kind_is_a_short_name(kind: str) -> None:
    with pytest.raises(ValidationError):
        ReferencePhoto(image="a.jpg", kind=kind, objects=())


@pytest.mark.parametrize("content", [None, "no json\n", '{"text": "no label"}\n'])
def test_a_damaged_set_is_rejected(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "reference.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match=r"reference\.jsonl"):
        read_reference_texts(tmp_path)


@pytest.mark.parametrize("name", ["kcbert", "sentiment"])
def test_the_bundled_texts(name: str) -> None:
    samples = read_reference_texts(MODELS / name)
    labels = {label.name for label in Manifest.read(MODELS / name).labels}
    assert len({sample.text for sample in samples}) >= MIN
    assert {sample.label for sample in samples} == labels


def test_the_bundled_photos() -> None:
    samples = read_reference_photos(MODELS / "yolo")
    labels = {label.name for label in Manifest.read(MODELS / "yolo").labels}
    assert len({sample.image for sample in samples}) >= MIN
    assert {found.label for sample in samples for found in sample.objects} == labels
    assert all((MODELS / "yolo" / sample.image).is_file() for sample in samples)
