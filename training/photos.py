"""The detector's photos: read, written, and split by object or by scene.

Each set is a folder with `images/<name>.jpg` and `labels/<name>.txt`, a line `class x y width height` per box in shares of the
photo (the format of YOLO).

- TrashNet (github.com/garythung/trashnet, MIT, Copyright (c) 2017 Gary Thung): single objects on a light ground, named
  `<class><number>`. The boxes were found automatically; some include the shadow, a few only a part.
- Objects in rooms and in hands, from several sources: `objects.tsv`, named `<source>-<number>`.
- Bottles and cartons in other places, to judge by alone: `other_places.tsv`, named likewise.
- A subset of TACO (Proença and Simões, tacodataset.org; CC BY 4.0, some photos ODbL): waste in context, named
  `taco-<licence>-<batch>-<scene>-<number>`.
"""

from __future__ import annotations

import random
import re
import shutil
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
BLOCK = 10  # photos with neighbouring numbers show the same object; an object at a block's edge may be in two blocks
SHARES = {"test": 0.15, "validation": 0.08}  # of each class's blocks; the rest is for training
HELD_SCENES = Path(__file__).with_name("held_scenes.txt")  # chosen once at random, by kind of scene and licence
SPLIT_SEED = 20  # the split is part of the meaning of the figures: it does not depend on the training's seed

ItemT = TypeVar("ItemT")
Labels = Sequence[tuple[int, Sequence[float]]]  # class and box of each object, as a row of Boxes
Boxes = npt.NDArray[np.float64]  # [boxes, 4]: x, y of the centre, width, height, in shares of the photo


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and its objects: `categories` are indices of CLASSES, one per row of `boxes`."""

    path: Path
    categories: tuple[int, ...]
    boxes: Boxes

    @property
    def at_edge(self) -> bool:
        """Whether the photo is one of the first or last two of its block: its object may also be in the next block."""
        return int(self.path.stem.lstrip(string.ascii_letters)) % BLOCK not in range(2, BLOCK - 2)

    @property
    def block(self) -> tuple[str, int]:
        """The photo's class and the block of numbers it belongs to. Raises ValueError if the name has no number."""
        match = re.fullmatch(r"([a-z]+)(\d+)", self.path.stem)
        if match is None:
            raise ValueError(f"{self.path} is not named <class><number>")
        return match[1], int(match[2]) // BLOCK

    @property
    def scene(self) -> str:
        """Batch and scene of a photo in context: photos of one scene show the same things, or the same place.

        Raises ValueError if the name has no scene.
        """
        match = re.fullmatch(r"taco-[a-z]+-(b\d+-\w+)-\d+", self.path.stem)
        if match is None:
            raise ValueError(f"{self.path} is not named taco-<licence>-<batch>-<scene>-<number>")
        return match[1]


def load_photos(folder: Path) -> list[LabelledPhoto]:
    """All photos of `folder` that have a label file, by name. Raises FileNotFoundError if there are none."""
    photos = []
    for path in sorted((folder / "images").glob("*.jpg")):
        label = folder / "labels" / f"{path.stem}.txt"
        if label.is_file():
            lines = label.read_text(encoding="utf-8").splitlines()
            rows = np.array([line.split() for line in lines], dtype=float).reshape(-1, 5)
            photos.append(LabelledPhoto(path, tuple(int(row[0]) for row in rows), rows[:, 1:5]))
    if not photos:
        raise FileNotFoundError(f"{folder} has no images/*.jpg with labels/*.txt: see training/README.md")
    return photos


def empty_folder(folder: Path) -> None:
    """Make `folder` a set without photos."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)


def write_photo(folder: Path, number: int, image: npt.NDArray[np.uint8], labels: Labels) -> None:
    """Add a photo [height, width, 3] (BGR) and its objects to the set in `folder`."""
    cv2.imwrite(str(folder / "images" / f"{number:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    rows = (f"{category} " + " ".join(f"{edge:.5f}" for edge in box) + "\n" for category, box in labels)
    (folder / "labels" / f"{number:05}.txt").write_text("".join(rows), encoding="utf-8")


def split_photos(photos: Sequence[LabelledPhoto]) -> dict[str, list[LabelledPhoto]]:
    """`train`, `validation` and `test`, by whole blocks of each class."""
    blocks: defaultdict[str, set[int]] = defaultdict(set)
    for photo in photos:
        name, number = photo.block
        blocks[name].add(number)
    side: dict[tuple[str, int], str] = {}
    for name, numbers in sorted(blocks.items()):
        shuffled = sorted(numbers)
        random.Random(f"{SPLIT_SEED} {name}").shuffle(shuffled)  # noqa: S311 (a split is no secret)
        position = 0
        for part, share in SHARES.items():
            end = position + max(1, round(share * len(shuffled)))
            side |= {(name, number): part for number in shuffled[position:end]}
            position = end
    splits: dict[str, list[LabelledPhoto]] = {"train": [], "validation": [], "test": []}
    for photo in photos:
        splits[side.get(photo.block, "train")].append(photo)
    return splits


def split_by_scene(photos: Sequence[LabelledPhoto]) -> dict[str, list[LabelledPhoto]]:
    """`train` and `test` of the photos in context: `test` are the scenes that `held_scenes.txt` names."""
    held = frozenset(HELD_SCENES.read_text(encoding="utf-8").split())
    splits: dict[str, list[LabelledPhoto]] = {"train": [], "test": []}
    for photo in photos:
        splits["test" if photo.scene in held else "train"].append(photo)
    return splits


def other_places(data: Path) -> dict[str, list[LabelledPhoto]]:
    """The photos of `other_places/` by source, `bottles` and `cartons`. Nothing is trained or fitted on them."""
    sources: defaultdict[str, list[LabelledPhoto]] = defaultdict(list)
    for photo in load_photos(data / "other_places"):
        sources[photo.path.name.partition("-")[0]].append(photo)
    return dict(sources)


def to_calibrate_on(data: Path) -> list[LabelledPhoto]:
    """As many photos in context as single objects that no detector is trained on: the kept scenes, and validation photos."""
    scenes = split_by_scene(load_photos(data / "litter"))["test"]
    return scenes + evenly(split_photos(load_photos(data / "recyclables"))["validation"], len(scenes))


def shippable(photos: Sequence[LabelledPhoto]) -> list[LabelledPhoto]:
    """Those of the kept scenes that are CC BY: the others (ODbL) are not shipped with the repository."""
    return [photo for photo in photos if photo.path.name.startswith("taco-ccby-")]


def on_plain_ground(photos: Sequence[LabelledPhoto]) -> list[LabelledPhoto]:
    """Those of `objects/` (`training.fetch_photos`) whose object can be cut out without its outline."""
    return [photo for photo in photos if photo.path.name.startswith("household-")]


def evenly(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """At most `count` items, spread evenly over `items`."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def grounds(folder: Path) -> dict[str, list[Path]]:
    """The photos of backgrounds, `train` and `test`: every fifth is kept for evaluation. Raises FileNotFoundError."""
    photos = sorted(folder.glob("*.jpg"))
    if not photos:
        raise FileNotFoundError(f"{folder} has no photos: see training/README.md")
    return {"train": [photo for index, photo in enumerate(photos) if index % 5], "test": photos[::5]}
