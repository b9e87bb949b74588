"""The detector's runner over an engine whose output is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from loguru import logger

from bunriwiki.artifacts.answers import Detection, Detections
from bunriwiki.artifacts.golden import GoldenPhoto, write_golden
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import (
    DamagedArtifactError,
    DetectionOutput,
    ImageInput,
    Label,
    Manifest,
    describe_files,
)
from bunriwiki.disposal.telling import how_to_tell
from bunriwiki.settings import Settings
from runners import yolo
from runners.engines import Array
from runners.yolo import Yolo

SIZE = 128
LABELS = (Label(name="glass", ko="유리"), Label(name="plastic", ko="플라스틱"), Label(name="trash", ko="일반쓰레기"))
CLASS_SCORES = [[0.3, 0.6, 0.1], [0.39, 0.4, 0.01], [0.0, 0.5, 0.5]]


class GivenEngine:
    """Finds the same boxes in every photo; takes squares of `sizes` only. Earlier releases compiled without class scores."""

    def __init__(self, *sizes: int, class_scores: bool = True) -> None:
        self.sizes = sizes
        self.class_scores = class_scores
        self.ran: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        size = inputs["images"].shape[-1]
        if size not in self.sizes:
            raise ValueError(f"squares of {size} pixels are not taken")
        self.ran.append(size)
        count = len(CLASS_SCORES)
        found = {
            "boxes": np.full((count, 4), [0, 0, size, size], dtype=np.float32),
            "scores": np.array([0.6, 0.4, 0.5], dtype=np.float32),
            "classes": np.array([1, 1, 1]),
            "images_index": np.zeros(count, dtype=np.int64),
        }
        return {**found, "class_scores": np.array(CLASS_SCORES, dtype=np.float32)} if self.class_scores else found


Open = Callable[..., Yolo]


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


@pytest.fixture
def detector(tmp_path: Path, bottle: bytes, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Loads a version that runs on the given engine."""

    def load(engine: GivenEngine, *, uncertain_below: float | None = None, served: int = 0) -> Yolo:
        (tmp_path / "model.onnx").write_bytes(b"graph")
        (tmp_path / "bottle.jpg").write_bytes(bottle)
        whole = Detection(label="plastic", label_ko="플라스틱", score=0.6, box=(0, 0, 240, 320))
        write_golden(tmp_path, [GoldenPhoto(image="bottle.jpg", confidence=0.55, detections=(whole,))])
        Manifest(
            model="yolo", version="v1", engine="onnx", entry="model.onnx", input=ImageInput(size=SIZE), labels=LABELS,
            output=DetectionOutput(uncertain_below=uncertain_below) if uncertain_below else None,
            source="a test", license="MIT", files=describe_files(tmp_path),
        ).write(tmp_path)  # fmt: skip
        monkeypatch.setattr(yolo, "open_engine", lambda *_: engine)
        monkeypatch.setattr(yolo, "settings", lambda: Settings(yolo_size=served))
        return Yolo(tmp_path)

    return load


def answer(served: Yolo, photo: bytes) -> Detections:
    [found] = served.predict([Photo(data=photo)]).results
    assert isinstance(found, Detections)
    return found


@pytest.mark.parametrize(("below", "uncertain"), [(0.4, [False] * 3), (0.5, [False, True, False]), (0.51, [False, True, True])])
def test_a_detection_with_a_lower_score_is_uncertain(
    detector: Open, bottle: bytes, below: float, uncertain: list[bool]
) -> None:
    found = answer(detector(GivenEngine(SIZE), uncertain_below=below), bottle).detections
    by_score = {box.score: box for box in found}
    assert [by_score[score].uncertain for score in (0.6, 0.4, 0.5)] == uncertain
    assert {box.label for box in found} == {"plastic"}
    for box in found:
        assert box.label_ko == ("재질을 알 수 없음" if box.uncertain else "플라스틱")
        assert bool(box.how_to_tell) == box.uncertain


def test_the_second_likeliest_class_says_how_to_tell(detector: Open, bottle: bytes) -> None:
    found = answer(detector(GivenEngine(SIZE), uncertain_below=0.51), bottle).detections
    told = {box.score: box.how_to_tell for box in found}
    assert told == {0.6: None, 0.4: how_to_tell("plastic", "glass"), 0.5: how_to_tell("plastic", "trash")}


def test_a_version_of_an_earlier_release_is_never_uncertain(detector: Open, bottle: bytes) -> None:
    served = detector(GivenEngine(SIZE, class_scores=False))
    assert not any(box.uncertain for box in answer(served, bottle).detections)


def test_a_threshold_requires_the_scores_of_all_classes(detector: Open) -> None:
    served = detector(GivenEngine(SIZE, class_scores=False), uncertain_below=0.5)
    with pytest.raises(DamagedArtifactError, match="does not answer as its golden samples do"):
        served.warm_up()  # before it serves


def test_a_smaller_square_serves_and_golden_samples_are_answered_at_the_own_size(detector: Open, bottle: bytes) -> None:
    engine = GivenEngine(64, SIZE)
    served = detector(engine, served=64)
    engine.ran.clear()
    served.warm_up()
    assert engine.ran == [SIZE]
    found = answer(served, bottle)
    assert engine.ran == [SIZE, 64]
    assert found.detections[0].box == (0, 0, found.image.width, found.image.height)


@pytest.mark.parametrize("wanted", [0, SIZE, 256])
def test_the_own_size_serves_by_default_and_is_the_largest(detector: Open, bottle: bytes, wanted: int) -> None:
    engine = GivenEngine(SIZE)
    answer(detector(engine, served=wanted), bottle)
    assert engine.ran == [SIZE]


def test_a_graph_for_one_size_serves_at_it_with_a_warning(detector: Open, bottle: bytes, warnings: list[str]) -> None:
    engine = GivenEngine(SIZE)
    answer(detector(engine, served=64), bottle)
    assert engine.ran == [SIZE]
    [warning] = warnings
    assert "yolo v1 serves squares of 128 pixels" in warning
    assert "BUNRIWIKI_YOLO_SIZE (64 pixels)" in warning
