from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.cutouts import cut_out, cut_out_all, cut_out_outlined, read_outlines
from training.photos import LabelledPhoto


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


def test_what_cannot_be_cut_out_is_left_out(can: LabelledPhoto) -> None:
    assert len(cut_out_all([can, LabelledPhoto(can.path, (2,), np.array([[0.5, 0.5, 1, 1]]))])) == 1


def write_outlines(folder: Path, *squares: tuple[float, float, float]) -> Path:
    """The annotations of photo 7, in a size of 480 pixels: squares by left, top and side."""
    annotations = [
        {
            "image_id": 7,
            "bbox": [left, top, side, side],
            "segmentation": [[left, top, left + side, top, left + side, top + side, left, top + side]],
        }
        for left, top, side in squares
    ]
    content = {"images": [{"id": 7, "width": 480, "height": 480}], "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def test_an_outlined_object_is_cut_out_in_the_size_of_the_photo(can: LabelledPhoto, tmp_path: Path) -> None:
    outlines = read_outlines(write_outlines(tmp_path, (120, 120, 240)))
    [thing] = cut_out_outlined(can, outlines)
    assert thing.category == 2
    assert thing.alpha.shape == thing.colour.shape[:2] == (121, 121)
    assert thing.alpha[60, 60] == 1
    assert thing.alpha[0, 0] < 1  # the edge is soft


@pytest.mark.parametrize("square", [(0, 0, 240), (228, 228, 24)])
def test_an_outline_without_a_label_is_not_used(can: LabelledPhoto, tmp_path: Path, square: tuple[float, float, float]) -> None:
    assert cut_out_outlined(can, read_outlines(write_outlines(tmp_path, square))) == []


def test_a_small_object_is_not_cut_out(can: LabelledPhoto, tmp_path: Path) -> None:
    small = LabelledPhoto(can.path, (2,), np.array([[0.5, 0.5, 0.05, 0.05]]))
    assert cut_out_outlined(small, read_outlines(write_outlines(tmp_path, (228, 228, 24)))) == []


def test_a_photo_without_outlines(can: LabelledPhoto) -> None:
    assert cut_out_outlined(can, {}) == []
