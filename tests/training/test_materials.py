from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bunriwiki.testing.paths import PHOTOS
from training import materials
from training.efficientnet import SIZE, EfficientNet
from training.materials import GREY, NOTHING, Thing, chances, crop, empty, fit, objects, proposed, read, varied
from training.photos import CLASSES, LabelledPhoto

WHITE = 255


def photo_with(left: int, top: int, right: int, bottom: int) -> materials.Pixels:
    """A black photo of 400 x 300 pixels with a white rectangle."""
    made = np.zeros((300, 400, 3), np.uint8)
    made[top:bottom, left:right] = WHITE
    return made


def white_in(crop: materials.Pixels) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(crop[..., 0] > 185)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_crop_shows_its_square() -> None:
    photo = photo_with(100, 100, 140, 120)
    centre = np.array([120.0, 110.0])  # of the white part
    moved = np.array([130.0, 110.0])

    def shares(of: materials.Pixels) -> list[float]:
        return [edge / SIZE for edge in white_in(of)]

    assert shares(crop(photo, centre, 80)) == pytest.approx([0.25, 0.375, 0.75, 0.625], abs=0.01)
    assert shares(crop(photo, moved, 80)) == pytest.approx([0.125, 0.375, 0.625, 0.625], abs=0.01)
    assert shares(crop(photo, moved, 80, mirrored=True)) == pytest.approx([0.375, 0.375, 0.875, 0.625], abs=0.01)
    assert shares(crop(photo, centre, 80, 90)) == pytest.approx([0.375, 0.25, 0.625, 0.75], abs=0.02)


def test_a_crop_beyond_the_photo_is_grey_there() -> None:
    made = crop(photo_with(0, 0, 400, 300), np.array([0.0, 150.0]), 100)
    assert made.shape == (SIZE, SIZE, 3)
    assert (made[:, : SIZE // 2 - 3] == GREY).all()
    assert (made[:, SIZE // 2 + 3 :] == WHITE).all()


def test_objects_of_a_photo(can: LabelledPhoto) -> None:
    [thing] = objects(can, read(can.path), "litter")
    assert thing.box == pytest.approx([120, 120, 120, 120])
    assert CLASSES[thing.category] == "metal"
    made = varied(thing, np.random.default_rng(1))
    assert made.shape == (SIZE, SIZE, 3)
    assert 0 <= made.min() < made.max() <= 1


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "nothing.jpg")


def test_empty_squares_touch_nothing() -> None:
    photo = photo_with(150, 100, 250, 200)
    there = Thing(photo, np.array([200.0, 150, 100, 100]), 2, "litter")
    found = [square for seed in range(20) for square in empty(photo, [there], np.random.default_rng(seed))]
    assert len(found) > 30
    for square in found:
        x, y, width, height = square.box
        assert square.category == NOTHING
        assert width / 2 <= x <= 400 - width / 2
        common = np.clip(
            [min(x + width / 2, 250) - max(x - width / 2, 150), min(y + height / 2, 200) - max(y - height / 2, 100)], 0, None
        )
        assert common.prod() < 0.1 * 100 * 100
    assert len(empty(photo, [], np.random.default_rng(1))) == materials.EMPTY_PER_PHOTO


def test_what_the_first_stage_finds(can: LabelledPhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = read(can.path)  # 240 x 240 pixels
    there = objects(can, photo, "litter")  # around the centre, with half of the photo's sides
    inside = [[320, 320, 320, 320], [320, 320, 320, 200], [320, 320, 320, 120], [80, 80, 100, 60]]  # in a square of 640
    found = torch.tensor(inside, dtype=torch.float32)
    monkeypatch.setattr(materials, "candidates", lambda *_: (found, torch.zeros(len(found), len(CLASSES))))
    exact, lower, beside = proposed(can.path, photo, there, torch.nn.Identity())  # the third is neither on it nor beside it
    assert exact.box == pytest.approx([120, 120, 120, 120])
    assert lower.box == pytest.approx([120, 120, 120, 75])
    assert beside.box == pytest.approx([30, 30, 37.5, 22.5])
    assert [thing.category for thing in (exact, lower, beside)] == [there[0].category, there[0].category, NOTHING]
    assert {thing.category for thing in proposed(can.path, photo, [], torch.nn.Identity())} == {NOTHING}


def test_rare_classes_are_drawn_more_often() -> None:
    def thing(category: int, source: str) -> Thing:
        return Thing(np.zeros((1, 1, 3), np.uint8), np.zeros(4), category, source)

    things = [thing(4, "litter")] * 4 + [thing(0, "litter")] + [thing(0, "close-up")] + [thing(NOTHING, "empty")]
    likely = chances(things)
    assert likely.sum() == pytest.approx(1)
    assert likely[:4].sum() == pytest.approx(2 * likely[4])
    assert likely[:5].sum() / likely[5] == pytest.approx(materials.SOURCES["litter"] / materials.SOURCES["close-up"])


def red_green_blue() -> list[Thing]:
    """Things of each class, with a colour of its own, and squares without one."""
    colours = np.random.default_rng(2).integers(0, 255, (NOTHING + 1, 3))
    photos = [np.full((40, 40, 3), colour, np.uint8) for colour in colours]
    sources = ["litter", "close-up", "elsewhere"]
    return [
        Thing(photos[category], np.array([20.0, 20, 20, 20]), category, "empty" if category == NOTHING else source)
        for category in range(NOTHING + 1)
        for source in sources
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_a_classifier_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    monkeypatch.setattr(materials, "DRAWN", 96)
    monkeypatch.setattr(materials, "REGULARISATION", 1.0)
    network = EfficientNet().eval()
    things = red_green_blue()
    classifier = fit(things, network, seed=1)
    assert all(torch.equal(classifier.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    crops = np.stack([crop(thing.photo, thing.box[:2], 24) for thing in things])
    with torch.inference_mode():
        answer = classifier(torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32) / 255))
    right = answer.argmax(dim=1).numpy() == [thing.category for thing in things]
    assert right.mean() > 0.7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_class_without_crops(can: LabelledPhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials, "DRAWN", 16)
    photo = read(can.path)
    things = [*objects(can, photo, "litter"), *empty(photo, [], np.random.default_rng(1))]
    with pytest.raises(ValueError, match="crops of the classes"):
        fit(things, EfficientNet().eval(), seed=1)


@pytest.mark.slow
def test_photos_of_all_sets_are_read_and_the_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = sorted(PHOTOS.glob("*.jpg"))
    names = {"recyclables": "can{}0", "objects": "household-000{}", "litter": "taco-ccby-b01-s900{0}-000{0}"}
    for folder, name in names.items():
        for part in ("images", "labels"):
            (tmp_path / folder / part).mkdir(parents=True)
        for index, photo in enumerate(photos):
            stem = name.format(index)
            shutil.copyfile(photo, tmp_path / folder / "images" / f"{stem}.jpg")
            (tmp_path / folder / "labels" / f"{stem}.txt").write_text(f"{index % 6} 0.5 0.5 0.2 0.2\n")
    shutil.copytree(PHOTOS, tmp_path / "grounds")
    (tmp_path / "start").mkdir()
    detector = tmp_path / "detector.pt"
    detector.write_text("the detector")
    torch.save({}, tmp_path / "start" / "efficientnet-lite2.pth")
    given: list[Thing] = []

    def fitted(things: Sequence[Thing], network: EfficientNet, seed: int) -> EfficientNet:
        given.extend(things)
        return network

    def found(detector: str, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert detector == "the detector"
        return torch.tensor([[320.0, 320, 10, 10]]), torch.zeros(1, 6)

    monkeypatch.setattr(materials, "load_detector", lambda path: SimpleNamespace(network=SimpleNamespace(eval=path.read_text)))
    monkeypatch.setattr(materials, "candidates", found)
    monkeypatch.setattr(materials, "fit", fitted)
    monkeypatch.setattr(EfficientNet, "load_pretrained", lambda *_: None)
    output = tmp_path / "output"
    given_to_it = ["--data", str(tmp_path), "--detector", str(detector), "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["materials", *given_to_it])
    materials.main()
    assert {thing.source for thing in given} == set(materials.SOURCES)
    assert all((thing.category == NOTHING) == (thing.source in ("empty", "candidate")) for thing in given)
    EfficientNet().load_state_dict(torch.load(output / "best.pt", weights_only=True))
