"""Parts of photos, around objects: training on them shows objects as large as in the whole photo at a multiple of its cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.photos import LabelledPhoto, empty_folder, write_photo

SIDES = (0.3, 0.8)  # of a crop, as a share of the photo's longer side
MARGIN = (1.1, 1.6)  # a crop is larger than its object by at least a factor in this range
RARE = frozenset({0, 1, 3})  # cardboard, glass, paper: photos with them are cropped more often
CROPS, CROPS_OF_RARE = 12, 18  # per photo
MIN_VISIBLE = 0.35  # of an object; less is not labelled

Floats = npt.NDArray[np.float64]


def write_crops(photos: Sequence[LabelledPhoto], output: Path, seed: int) -> None:
    """Write crops of `photos` to the folder `output` (`images/`, `labels/`), each around one of the photo's objects."""
    empty_folder(output)
    rng = np.random.default_rng(seed)
    number = 0
    for photo in tqdm(photos, "cropping"):
        image = cv2.imread(str(photo.path))
        if image is None or not photo.categories:
            continue
        size = np.array(image.shape[1::-1], dtype=float)
        centres, sides = photo.boxes[:, :2] * size, photo.boxes[:, 2:] * size
        objects = np.hstack([centres - sides / 2, centres + sides / 2])
        for _ in range(CROPS_OF_RARE if RARE & set(photo.categories) else CROPS):
            crop = around(objects[rng.integers(len(objects))], size, rng)
            left, top, right, bottom = crop.astype(int)
            part = image[top:bottom, left:right]
            parts = zip(photo.categories, within(objects, crop), strict=True)
            write_photo(output, number, part, [(category, box) for category, box in parts if box is not None])
            number += 1


def around(thing: Floats, size: Floats, rng: np.random.Generator) -> Floats:
    """A crop (x1, y1, x2, y2 in pixels) of a photo of `size` (width, height) that has `thing` wholly in it, anywhere."""
    side = max(size.max() * rng.uniform(*SIDES), (thing[2:] - thing[:2]).max() * rng.uniform(*MARGIN))
    sides = np.minimum(side, size)
    lowest, highest = np.maximum(0, thing[2:] - sides), np.minimum(thing[:2], size - sides)
    corner = rng.uniform(np.minimum(lowest, highest), np.maximum(lowest, highest)).clip(0, size - sides)
    return np.concatenate([corner, corner + sides])


def within(objects: Floats, crop: Floats) -> list[list[float] | None]:
    """The box of each object (as in a label file) in the crop; None if too little of it is visible."""
    found: list[list[float] | None] = []
    for thing in objects:
        part = np.concatenate([np.maximum(thing[:2], crop[:2]), np.minimum(thing[2:], crop[2:])])
        sides = (part[2:] - part[:2]).clip(0)
        if sides.prod() < MIN_VISIBLE * (thing[2:] - thing[:2]).prod():
            found.append(None)
        else:
            centre = ((part[:2] + part[2:]) / 2 - crop[:2]) / (crop[2:] - crop[:2])
            found.append([*centre, *(sides / (crop[2:] - crop[:2]))])
    return found
