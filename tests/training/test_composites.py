from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.composites import AT_A_DISTANCE, CLOSE_UP, PASTED, compose, paste, write_composites, write_pasted
from training.cutouts import CutOut, cut_out
from training.photos import LabelledPhoto, load_photos

SIDE = CLOSE_UP.side
GREEN = (0, 160, 0)  # BGR


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    path = tmp_path / "ground.png"
    cv2.imwrite(str(path), np.full((400, 500, 3), GREEN, np.uint8))
    return path


def read(path: Path) -> Any:
    return cv2.imread(str(path))


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
    squares = [square(0), square(1)]
    below_seen = 0
    for seed in range(20):
        _, boxes = compose(read(ground), squares, np.random.default_rng(seed))
        assert boxes[-1][0] == 1  # the upper square is always visible
        below_seen += len(boxes) == 2
    assert 0 < below_seen < 20


def test_a_set_has_labels_that_load(can: LabelledPhoto, ground: Path, tmp_path: Path) -> None:
    output = tmp_path / "made"
    thing = cut_out(can)
    assert thing is not None
    write_composites([[thing]], [ground], output, 12, seed=1)
    made = load_photos(output)
    assert len(made) == 12
    first = (output / "images" / "00000.jpg").read_bytes()
    write_composites([[thing]], [ground], output, 12, seed=1)
    assert (output / "images" / "00000.jpg").read_bytes() == first


def square(category: int, side: int = 64) -> CutOut:
    return CutOut(category, np.full((side, side, 3), 200, np.uint8), np.ones((side, side), np.float32))


def test_at_a_distance_objects_are_small_and_never_blurred(ground: Path) -> None:
    widths = []
    for seed in range(40):
        image, boxes = compose(read(ground), [square(0)], np.random.default_rng(seed), AT_A_DISTANCE)
        assert image.shape == (512, 512, 3)
        widths += [512 * width for _, (_, _, width, _) in boxes]
    assert max(widths) <= 64 * 1.6 * np.sqrt(2) + 3  # enlarged to the limit, and turned
    assert np.median(widths) < 90


def test_classes_and_sources_are_equally_frequent(ground: Path, tmp_path: Path) -> None:
    many, few = [square(0, 40)] * 50 + [square(1, 40)] * 3, [square(1, 20)]
    write_composites([many, few], [ground], tmp_path / "made", 60, seed=1)
    found = [category for photo in load_photos(tmp_path / "made") for category in photo.categories]
    assert found.count(0) == pytest.approx(found.count(1), rel=0.5)


def test_objects_are_pasted_into_a_photo_of_any_shape() -> None:
    photo = np.full((300, 500, 3), GREEN, np.uint8)
    for seed in range(20):
        image, [(category, (x, y, width, height))] = paste(photo, [square(4)], np.random.default_rng(seed), AT_A_DISTANCE)
        assert (image.shape, category) == (photo.shape, 4)
        rows, columns = np.nonzero(image[..., 2] > image[..., 1] // 2)  # not green
        assert x * 500 == pytest.approx((columns.min() + columns.max()) / 2, abs=4)
        assert y * 300 == pytest.approx((rows.min() + rows.max()) / 2, abs=4)
        assert (width * 500, height * 300) == pytest.approx((np.ptp(columns) + 1, np.ptp(rows) + 1), abs=6)


def test_a_shadow_may_fall_outside_of_the_photo() -> None:
    for seed in range(30):
        image, _ = paste(np.full((6, 90, 3), GREEN, np.uint8), [square(4)], np.random.default_rng(seed), AT_A_DISTANCE)
        assert image.shape == (6, 90, 3)


def test_what_a_photo_has_stays_while_it_is_visible() -> None:
    photo = np.full((100, 100, 3), GREEN, np.uint8)
    everywhere, small = (2, [0.5, 0.5, 1.0, 1.0]), (3, [0.5, 0.5, 0.1, 0.1])
    hidden = 0
    for seed in range(40):
        _, labels = paste(photo, [square(4)], np.random.default_rng(seed), CLOSE_UP, [everywhere, small])
        categories = [category for category, _ in labels]
        area = labels[-1][1][2] * labels[-1][1][3]
        assert categories[-1] == 4
        assert 2 in categories or area > 0.5
        hidden += 3 not in categories
    assert 0 < hidden < 40


def test_a_set_of_photos_with_pasted_objects(ground: Path, tmp_path: Path) -> None:
    write_composites([[square(0, 40)]], [ground], tmp_path / "photos", 12, seed=1)
    photos = load_photos(tmp_path / "photos")
    write_pasted(photos, [[square(5, 40)]], tmp_path / "pasted", seed=1)
    made = load_photos(tmp_path / "pasted")
    assert len(made) == len(photos)
    assert {5} < {category for photo in made for category in photo.categories} == {0, 5}
    assert all(1 <= photo.categories.count(5) <= PASTED for photo in made)


def test_no_grounds(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training/README\.md"):
        write_composites([[square(0)]], [], tmp_path, 1, seed=1)
