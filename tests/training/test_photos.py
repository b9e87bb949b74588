from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.photos import (
    CLASSES,
    HELD_SCENES,
    SHARES,
    LabelledPhoto,
    empty_folder,
    evenly,
    grounds,
    load_photos,
    on_plain_ground,
    shippable,
    split_by_scene,
    split_photos,
    write_photo,
)


def photo(name: str) -> LabelledPhoto:
    return LabelledPhoto(Path(f"{name}.jpg"), (0,), np.array([[0.5, 0.5, 1, 1]]))


ALL = [photo(f"{name}{number}") for name in CLASSES for number in range(400)]


def test_an_object_is_in_a_single_split() -> None:
    sides = {name: {one.block for one in part} for name, part in split_photos(ALL).items()}
    assert not sides["train"] & sides["test"]
    assert not sides["train"] & sides["validation"]
    assert not sides["validation"] & sides["test"]


def test_every_photo_is_in_a_split_and_every_class_has_its_share() -> None:
    splits = split_photos(ALL)
    assert sum(len(part) for part in splits.values()) == len(ALL)
    for part, share in SHARES.items():
        for name in CLASSES:
            found = sum(one.block[0] == name for one in splits[part])
            assert found == pytest.approx(400 * share, abs=10)


def test_the_split_is_always_the_same() -> None:
    once, again = split_photos(ALL), split_photos(ALL[::-1])
    assert {one.path for one in once["test"]} == {one.path for one in again["test"]}


def test_a_photo_without_a_number_has_no_block() -> None:
    with pytest.raises(ValueError, match="not named"):
        split_photos([photo("can")])


def test_a_scene_is_in_a_single_split() -> None:
    held = HELD_SCENES.read_text(encoding="utf-8").split()
    assert held == sorted(set(held))
    photos = [photo(f"taco-ccby-{scene}-{number:04}") for scene in (held[0], "b01-s9999", held[1]) for number in range(3)]
    splits = split_by_scene(photos)
    assert {one.scene for one in splits["test"]} == set(held[:2])
    assert [one.scene for one in splits["train"]] == ["b01-s9999"] * 3


@pytest.mark.parametrize("name", ["can1", "taco-ccby-b01-0005"])
def test_a_photo_without_a_scene(name: str) -> None:
    with pytest.raises(ValueError, match="not named"):
        split_by_scene([photo(name)])


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 3]), (3, [0, 2, 4]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])])
def test_spreads_evenly(count: int, expected: list[int]) -> None:
    assert evenly(range(6), count) == expected


def test_only_cc_by_photos_are_shipped() -> None:
    photos = [photo(f"taco-{licence}-b01-s0001-{number:04}") for number, licence in enumerate(["ccby", "odbl", "ccby"])]
    assert shippable(photos) == [photos[0], photos[2]]


def test_objects_on_a_plain_ground_can_be_cut_out() -> None:
    plain = photo("household-0002")
    assert on_plain_ground([plain, photo("fridge-0002"), photo("drinks-0004"), photo("packages-0000")]) == [plain]


def test_photos_are_written_and_read(tmp_path: Path) -> None:
    labels = [(4, [0.5, 0.5, 0.2, 0.4]), (0, [0.25, 0.25, 0.1, 0.1])]
    empty_folder(tmp_path)
    write_photo(tmp_path, 7, np.zeros((20, 30, 3), np.uint8), labels)
    write_photo(tmp_path, 8, np.zeros((20, 30, 3), np.uint8), [])
    one, other = load_photos(tmp_path)
    assert (one.path.name, one.categories, one.boxes.tolist()) == ("00007.jpg", (4, 0), [box for _, box in labels])
    assert other.categories == ()
    empty_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_photos(tmp_path)


def test_reads_labels(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, text in {"can1": "2 0.5 0.5 0.25 0.5\n3 0.1 0.1 0.2 0.2\n", "empty2": ""}.items():
        (tmp_path / "images" / f"{name}.jpg").touch()
        (tmp_path / "labels" / f"{name}.txt").write_text(text)
    (tmp_path / "images" / "unlabelled3.jpg").touch()
    can, empty = load_photos(tmp_path)
    assert can.categories == (2, 3)
    assert can.boxes.tolist() == [[0.5, 0.5, 0.25, 0.5], [0.1, 0.1, 0.2, 0.2]]
    assert (empty.categories, empty.boxes.shape) == ((), (0, 4))


def test_no_photos(tmp_path: Path) -> None:
    for read in (load_photos, grounds):
        with pytest.raises(FileNotFoundError, match=r"training/README\.md"):
            read(tmp_path)


def test_grounds_are_split(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / f"{index}.jpg").touch()
    split = grounds(tmp_path)
    assert (len(split["train"]), len(split["test"])) == (8, 2)
    assert not set(split["train"]) & set(split["test"])
