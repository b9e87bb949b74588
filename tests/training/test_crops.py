from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.crops import CROPS, CROPS_OF_RARE, around, within, write_crops
from training.photos import LabelledPhoto, load_photos

SIZE = np.array([640.0, 480.0])


@pytest.mark.parametrize(
    "thing", [(300, 200, 340, 260), (0, 0, 20, 20), (620, 440, 640, 480), (0, 0, 640, 480), (100, 0, 160, 480)]
)
def test_a_crop_has_its_object_and_is_part_of_the_photo(thing: tuple[float, ...]) -> None:
    corners = np.array(thing, dtype=float)
    for seed in range(30):
        crop = around(corners, SIZE, np.random.default_rng(seed))
        assert (crop[:2] <= corners[:2] + 1e-6).all()
        assert (crop[2:] >= corners[2:] - 1e-6).all()
        assert (crop[:2] >= 0).all()
        assert (crop[2:] <= SIZE + 1e-6).all()


def test_boxes_are_cut_at_the_edge_of_the_crop() -> None:
    crop = np.array([100.0, 100, 200, 200])
    objects = np.array([[120, 120, 140, 160], [80, 100, 120, 140], [60, 100, 110, 140], [300, 300, 400, 400]], dtype=float)
    whole, half, *rest = within(objects, crop)
    assert whole == pytest.approx([0.3, 0.4, 0.2, 0.4])
    assert half == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert rest == [None, None]  # a fifth of one is visible, and nothing of the other


def test_photos_are_cropped(tmp_path: Path) -> None:
    photos = []
    for name, category in {"can": 2, "jar": 1}.items():
        image = np.zeros((480, 640, 3), np.uint8)
        image[200:260, 300:340] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        photos.append(
            LabelledPhoto(tmp_path / f"{name}.png", (category,), np.array([[320 / 640, 230 / 480, 40 / 640, 60 / 480]]))
        )
    write_crops(photos, tmp_path / "crops", seed=1)
    made = load_photos(tmp_path / "crops")
    assert [photo.categories for photo in made] == [(2,)] * CROPS + [(1,)] * CROPS_OF_RARE
    for photo in made:
        white = np.asarray(cv2.imread(str(photo.path), cv2.IMREAD_GRAYSCALE)) > 128
        rows, columns = np.nonzero(white)
        height, width = white.shape
        assert photo.boxes[0][0] * width == pytest.approx(columns.mean() + 0.5, abs=2)
        assert photo.boxes[0][3] * height == pytest.approx(np.ptp(rows) + 1, abs=3)
