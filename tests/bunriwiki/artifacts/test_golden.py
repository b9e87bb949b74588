from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize
from bunriwiki.artifacts.golden import GoldenPhoto, GoldenText, read_golden_photos, read_golden_texts, write_golden
from bunriwiki.artifacts.manifest import DamagedArtifactError

TEXT = GoldenText(text="좋아", details={"a": 0.75, "b": 0.25})
BOX = Detection(label="glass", label_ko="유리", score=0.8, box=(10, 10, 110, 110))
PHOTO = GoldenPhoto(image="golden/1.jpg", confidence=0.25, detections=(BOX,))


def answer(*detections: Detection) -> Detections:
    return Detections(detections=detections, image=ImageSize(width=200, height=200))


def test_reads_what_was_written(tmp_path: Path) -> None:
    write_golden(tmp_path, [TEXT, TEXT])
    assert read_golden_texts(tmp_path) == [TEXT, TEXT]
    write_golden(tmp_path, [PHOTO])
    assert read_golden_photos(tmp_path) == [PHOTO]


def test_an_uncertain_detection_is_compared_like_any_other(tmp_path: Path) -> None:
    unclear = replace(BOX, label_ko="재질을 알 수 없음", uncertain=True, how_to_tell="두드려 보세요.")
    assert PHOTO.differs(answer(unclear)) is None
    assert PHOTO.differs(answer(replace(unclear, label="metal")))
    write_golden(tmp_path, [PHOTO, replace_detections(unclear)])
    assert read_golden_photos(tmp_path) == [PHOTO, replace_detections(unclear)]
    assert "uncertain" not in (tmp_path / "golden.jsonl").read_text(encoding="utf-8").splitlines()[0]


def replace_detections(*detections: Detection) -> GoldenPhoto:
    return PHOTO.model_copy(update={"detections": detections})


def test_samples_of_another_type_are_rejected(tmp_path: Path) -> None:
    write_golden(tmp_path, [TEXT])
    with pytest.raises(DamagedArtifactError, match="no valid samples"):
        read_golden_photos(tmp_path)


def test_texts_agree_within_the_tolerance() -> None:
    near = Classification(label="a", score=0.751, details={"a": 0.751, "b": 0.249})
    far = Classification(label="a", score=0.76, details={"a": 0.76, "b": 0.24})
    other = Classification(label="c", score=1, details={"c": 1})
    assert TEXT.differs(near) is None
    assert TEXT.differs(far) == "a 0.7600 instead of 0.7500"
    assert "classes" in str(TEXT.differs(other))


@pytest.mark.parametrize(
    "changed",
    [
        replace(BOX, label="metal"),
        replace(BOX, score=0.85),
        replace(BOX, box=(10.0, 10.0, 110.0, 118.0)),
    ],
)
def test_a_changed_detection_differs(changed: Detection) -> None:
    assert PHOTO.differs(answer(changed)) is not None


def test_detections_agree_within_the_tolerance() -> None:
    near = replace(BOX, score=0.81, box=(10.0, 10.0, 110.0, 111.0))
    unsure = replace(BOX, score=0.26, box=(150.0, 150.0, 160.0, 160.0))
    assert PHOTO.differs(answer(near)) is None
    assert PHOTO.differs(answer(BOX, unsure)) is None


def test_an_additional_or_missing_detection_differs() -> None:
    more = replace(BOX, box=(150.0, 150.0, 190.0, 190.0))
    assert "one side only" in str(PHOTO.differs(answer(BOX, more)))
    assert "one side only" in str(PHOTO.differs(answer()))


def test_nan_differs_from_every_score() -> None:
    answer = Classification(label="a", score=0.5, details={"a": float("nan"), "b": 0.5})
    assert GoldenText(text="x", details={"a": 0.5, "b": 0.5}).differs(answer) == "a nan instead of 0.5000"
