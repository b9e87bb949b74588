from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.composites import SIDE, CutOut, compose, cut_out, write_composites
from training.photos import LabelledPhoto, load_photos

RED, GREEN = (0, 0, 220), (0, 160, 0)  # BGR


@pytest.fixture
def can(tmp_path: Path) -> LabelledPhoto:
    """A red disc on a light background, with its box."""
    rng = np.random.default_rng(1)
    image = rng.integers(225, 245, (240, 240, 3)).astype(np.uint8)
    cv2.circle(image, (120, 120), 50, RED, cv2.FILLED)
    path = tmp_path / "metal1.jpg"
    cv2.imwrite(str(path), image)
    return LabelledPhoto(path, (2,), np.array([[0.5, 0.5, 120 / 240, 120 / 240]]))


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    path = tmp_path / "ground.png"
    cv2.imwrite(str(path), np.full((400, 500, 3), GREEN, np.uint8))
    return path


def read(path: Path) -> Any:
    return cv2.imread(str(path))


def test_the_object_is_cut_out_of_its_background(can: LabelledPhoto) -> None:
    thing = cut_out(can)
    assert thing is not None
    assert thing.category == 2
    assert thing.alpha.shape == thing.colour.shape[:2] == (120, 120)
    assert thing.alpha[60, 60] == 1
    assert thing.alpha[3, 3] == 0
    assert thing.alpha.sum() == pytest.approx(np.pi * 50**2, rel=0.1)


@pytest.mark.parametrize("box", [[0.5, 0.5, 1, 1], [0.5, 0.5, 0.01, 0.5]])
def test_without_background_or_object_nothing_is_cut_out(can: LabelledPhoto, box: list[float]) -> None:
    assert cut_out(LabelledPhoto(can.path, (2,), np.array([box]))) is None


def test_several_objects_are_not_cut_out(can: LabelledPhoto) -> None:
    assert cut_out(LabelledPhoto(can.path, (2, 2), np.vstack([can.boxes, can.boxes]))) is None


def test_the_box_is_where_the_object_is(can: LabelledPhoto, ground: Path) -> None:
    thing = cut_out(can)
    assert thing is not None
    for seed in range(5):
        image, [(category, (x, y, width, height))] = compose(read(ground), [thing], np.random.default_rng(seed))
        assert (image.shape, category) == ((SIDE, SIDE, 3), 2)
        rows, columns = np.nonzero(image[..., 2] > image[..., 1])  # red
        assert x * SIDE == pytest.approx((columns.min() + columns.max()) / 2, abs=4)
        assert y * SIDE == pytest.approx((rows.min() + rows.max()) / 2, abs=4)
        assert width * SIDE == pytest.approx(np.ptp(columns), abs=6)
        assert height * SIDE == pytest.approx(np.ptp(rows), abs=6)


def test_a_hidden_object_has_no_box(ground: Path) -> None:
    """Of two overlapping squares, the lower counts only while enough of it is visible."""
    squares = [CutOut(category, np.full((64, 64, 3), 200, np.uint8), np.ones((64, 64), np.float32)) for category in (0, 1)]
    below_seen = 0
    for seed in range(20):
        _, boxes = compose(read(ground), squares, np.random.default_rng(seed))
        assert boxes[-1][0] == 1  # the upper square is always visible
        below_seen += len(boxes) == 2
    assert 0 < below_seen < 20


def test_a_set_has_labels_that_load(can: LabelledPhoto, ground: Path, tmp_path: Path) -> None:
    output = tmp_path / "made"
    write_composites([can], [ground], output, 12, seed=1)
    made = load_photos(output)
    assert len(made) == 12
    first = (output / "images" / "00000.jpg").read_bytes()
    write_composites([can], [ground], output, 12, seed=1)
    assert (output / "images" / "00000.jpg").read_bytes() == first


def test_no_grounds(can: LabelledPhoto, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training/README\.md"):
        write_composites([can], [], tmp_path, 1, seed=1)
