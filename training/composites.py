"""Composed photos: objects cut out of their white background and placed on other backgrounds.

All of TrashNet's objects are on a light, empty background, and a detector trained on them alone takes the background for a part
of the object. GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) finds the mask of an object, starting from its box.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.photos import LabelledPhoto

SIDE = 320  # pixels: the longest side of TrashNet's photos
MAX_OBJECTS = 3
EMPTY = 0.06  # share of the composites without any object: a background is not an object
LARGEST_BOX = 0.9  # of a photo: a larger object has no background around it for GrabCut to learn from
FILL = (0.3, 0.97)  # of its box; a mask outside of it has failed
MAX_HIDDEN = 0.5  # of an object by those on top of it

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CutOut:
    """An object without its background: `colour` [height, width, 3] (BGR) and `alpha` [height, width], 0..1."""

    category: int
    colour: Image
    alpha: Floats


def cut_out(photo: LabelledPhoto) -> CutOut | None:
    """The object of a photo with a single box; None if its mask cannot be separated from the background."""
    image = cv2.imread(str(photo.path))
    if image is None or len(photo.categories) != 1:
        return None
    height, width = image.shape[:2]
    x, y, w, h = photo.boxes[0] * (width, height, width, height)
    left, top = max(1, round(x - w / 2)), max(1, round(y - h / 2))
    right, bottom = min(width - 1, round(x + w / 2)), min(height - 1, round(y + h / 2))
    if (right - left) * (bottom - top) > LARGEST_BOX * width * height or right - left < 16 or bottom - top < 16:
        return None
    mask = np.zeros((height, width), np.uint8)
    cv2.setRNGSeed(0)
    cv2.grabCut(
        image, mask, (left, top, right - left, bottom - top), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT
    )
    solid = _largest_part(((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8))
    box = (slice(top, bottom), slice(left, right))
    if not FILL[0] <= solid[box].mean() <= FILL[1]:
        return None
    alpha = cv2.GaussianBlur(cv2.erode(solid, np.ones((3, 3), np.uint8)).astype(np.float32), (3, 3), 0)
    return CutOut(photo.categories[0], image[box], alpha[box])


def _largest_part(mask: Image) -> Image:
    count, parts, figures, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    part = (parts == 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(part, outlines, -1, 1, cv2.FILLED)  # without holes: the mask of glass would be full of them


def compose(ground: Image, objects: Sequence[CutOut], rng: np.random.Generator) -> tuple[Image, list[tuple[int, list[float]]]]:
    """`objects` on a random part of `ground`: the photo, and class and box (as in a label file) of each visible object."""
    canvas = _part_of(ground, rng).astype(np.float32)
    layers: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for thing in objects:
        colour, alpha = _transformed(thing, rng)
        height, width = alpha.shape
        top, left = (int(rng.integers(0, SIDE - length + 1)) for length in (height, width))
        place = (slice(top, top + height), slice(left, left + width))
        light = 0.7 + 0.6 * rng.random() if rng.random() < 0.5 else 0.6 + 0.4 * float(canvas[place].mean()) / 128
        _shade(canvas, alpha, top, left, rng)
        canvas[place] = alpha[..., None] * np.clip(colour * min(light, 1.3), 0, 255) + (1 - alpha[..., None]) * canvas[place]
        solid = np.zeros((SIDE, SIDE), bool)
        solid[place] = alpha > 0.5
        layers.append((thing.category, solid))
    return canvas.clip(0, 255).astype(np.uint8), _boxes(layers)


def _boxes(layers: Sequence[tuple[int, npt.NDArray[np.bool_]]]) -> list[tuple[int, list[float]]]:
    found = []
    for index, (category, solid) in enumerate(layers):
        visible = solid.copy()
        for _, above in layers[index + 1 :]:
            visible &= ~above
        if visible.sum() < (1 - MAX_HIDDEN) * solid.sum() or not visible.any():
            continue
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        box = [(left + right) / 2 / SIDE, (top + bottom) / 2 / SIDE, (right - left) / SIDE, (bottom - top) / SIDE]
        found.append((category, box))
    return found


def _part_of(ground: Image, rng: np.random.Generator) -> Image:
    height, width = ground.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 1.0))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    part = cv2.resize(ground[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return part[:, ::-1] if rng.random() < 0.5 else part


def _transformed(thing: CutOut, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The object at a random angle and size, cropped to its mask."""
    height, width = thing.alpha.shape
    reach = float(np.hypot(height, width))
    scale = SIDE * rng.uniform(0.25, 0.9) / max(height, width)
    side = int(np.ceil(reach * scale)) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), scale)
    matrix[:, 2] += side / 2 - np.array([width / 2, height / 2])
    alpha = cv2.warpAffine(thing.alpha, matrix, (side, side), flags=cv2.INTER_AREA)
    colour = cv2.warpAffine(thing.colour, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    cut = (slice(rows[0], min(rows[-1] + 1, rows[0] + SIDE)), slice(columns[0], min(columns[-1] + 1, columns[0] + SIDE)))
    return colour[cut].astype(np.float32), alpha[cut]


def _shade(canvas: Floats, alpha: Floats, top: int, left: int, rng: np.random.Generator) -> None:
    """Darken the background where the object's shadow falls."""
    shadow = np.zeros((SIDE, SIDE), np.float32)
    down, right = (int(rng.integers(-10, 11)) for _ in range(2))
    to_top, to_left = max(0, top + down), max(0, left + right)
    part = alpha[: SIDE - to_top, : SIDE - to_left]
    shadow[to_top : to_top + part.shape[0], to_left : to_left + part.shape[1]] = part
    canvas *= 1 - rng.uniform(0, 0.5) * cv2.GaussianBlur(shadow, (0, 0), 6)[..., None]


def write_composites(photos: Sequence[LabelledPhoto], grounds: Sequence[Path], output: Path, count: int, seed: int) -> None:
    """Write `count` composites to the folder `output` (`images/`, `labels/`); all classes are equally frequent.

    Raises FileNotFoundError if there are no grounds.
    """
    pictures = [picture for picture in (cv2.imread(str(path)) for path in grounds) if picture is not None]
    if not pictures:
        raise FileNotFoundError("no photos of backgrounds: see training/README.md")
    with ThreadPoolExecutor() as pool:
        cut = tqdm(pool.map(cut_out, photos), "cutting out", len(photos))
        things = [thing for thing in cut if thing is not None]
    by_class = [[thing for thing in things if thing.category == category] for category in sorted({t.category for t in things})]
    rng = np.random.default_rng(seed)
    shutil.rmtree(output, ignore_errors=True)
    for part in ("images", "labels"):
        (output / part).mkdir(parents=True)
    for index in tqdm(range(count), "composing"):
        amount = 0 if rng.random() < EMPTY else int(rng.integers(1, MAX_OBJECTS + 1))
        chosen = [
            of_class[rng.integers(len(of_class))] for of_class in (by_class[rng.integers(len(by_class))] for _ in range(amount))
        ]
        image, boxes = compose(pictures[rng.integers(len(pictures))], chosen, rng)
        cv2.imwrite(str(output / "images" / f"{index:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
        rows = (f"{category} " + " ".join(f"{edge:.5f}" for edge in box) + "\n" for category, box in boxes)
        (output / "labels" / f"{index:05}.txt").write_text("".join(rows), encoding="utf-8")
