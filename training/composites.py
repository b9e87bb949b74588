"""Composed photos: objects without their background (`training.cutouts`), placed on other backgrounds.

All of TrashNet's objects are on a light, empty background, and a detector trained on them alone takes the background for a part
of the object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.cutouts import CutOut, Floats, Image
from training.photos import LabelledPhoto, Labels, empty_folder, write_photo

EMPTY = 0.06  # share of the composites without any object: a background is not an object
MAX_HIDDEN = 0.5  # of an object by those on top of it
PASTED = 2  # objects at most, into a photo with objects

ItemT = TypeVar("ItemT")
Layer = tuple[int, npt.NDArray[np.bool_]]  # class of an object and the pixels that it covers


@dataclass(frozen=True)
class Layout:
    """How composites look: squares of `side` pixels with at most `objects`.

    `size` draws the longer side of an object, as a share of the longer side of what it is placed on. An object is enlarged at
    most `enlarged` times: beyond that it would be blurred.
    """

    side: int
    objects: int
    size: Callable[[np.random.Generator], float]
    enlarged: float = np.inf


def _close(rng: np.random.Generator) -> float:
    return rng.uniform(0.25, 0.9)


def _far(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(0.06), np.log(0.7))))  # as many of half the size as of the whole


CLOSE_UP = Layout(side=320, objects=3, size=_close)  # the side is the longest of TrashNet's photos
AT_A_DISTANCE = Layout(side=512, objects=4, size=_far, enlarged=1.6)


def compose(
    ground: Image, objects: Sequence[CutOut], rng: np.random.Generator, layout: Layout = CLOSE_UP
) -> tuple[Image, Labels]:
    """`objects` on a random part of `ground`: the photo, and class and box of each visible object."""
    return paste(_part_of(ground, rng, layout.side), objects, rng, layout)


def paste(
    photo: Image, objects: Sequence[CutOut], rng: np.random.Generator, layout: Layout, labels: Labels = ()
) -> tuple[Image, Labels]:
    """`objects` on `photo`, anywhere: the new photo, and class and box of each object in it that is visible.

    `labels` are the objects that the photo has already.
    """
    canvas = photo.astype(np.float32)
    layers: list[Layer] = []
    room = photo.shape[:2]
    for thing in objects:
        colour, alpha = _transformed(thing, rng, layout, room)
        height, width = alpha.shape
        top, left = (int(rng.integers(0, whole - length + 1)) for whole, length in zip(room, (height, width), strict=True))
        place = (slice(top, top + height), slice(left, left + width))
        light = 0.7 + 0.6 * rng.random() if rng.random() < 0.5 else 0.6 + 0.4 * float(canvas[place].mean()) / 128
        _shade(canvas, alpha, top, left, rng)
        canvas[place] = alpha[..., None] * np.clip(colour * min(light, 1.3), 0, 255) + (1 - alpha[..., None]) * canvas[place]
        solid = np.zeros(room, bool)
        solid[place] = alpha > 0.5
        layers.append((thing.category, solid))
    return canvas.clip(0, 255).astype(np.uint8), [*_still_visible(labels, layers, room), *_boxes(layers)]


def _still_visible(labels: Labels, layers: Sequence[Layer], room: tuple[int, ...]) -> Labels:
    """Those of the photo's own `labels` that the `layers` on top leave visible, by the area of their boxes."""
    hidden = np.zeros(room, bool)
    for _, solid in layers:
        hidden |= solid
    edges = np.array(room[::-1] * 2)
    kept = []
    for category, (x, y, width, height) in labels:
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * edges
        left, top, right, bottom = np.round(corners).clip(0, edges).astype(int)
        covered = hidden[top:bottom, left:right]
        if covered.size and covered.mean() <= MAX_HIDDEN:
            kept.append((category, [x, y, width, height]))
    return kept


def _boxes(layers: Sequence[Layer]) -> Labels:
    found = []
    for index, (category, solid) in enumerate(layers):
        visible = solid.copy()
        for _, above in layers[index + 1 :]:
            visible &= ~above
        if visible.sum() < (1 - MAX_HIDDEN) * solid.sum() or not visible.any():
            continue
        height, width = solid.shape
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        box = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
        found.append((category, box))
    return found


def _part_of(ground: Image, rng: np.random.Generator, size: int) -> Image:
    height, width = ground.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 1.0))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    shrinks = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    part = cv2.resize(ground[top : top + side, left : left + side], (size, size), interpolation=shrinks)
    return part[:, ::-1] if rng.random() < 0.5 else part


def _transformed(thing: CutOut, rng: np.random.Generator, layout: Layout, room: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The object at a random angle and size, cropped to its mask, and to `room` (height, width)."""
    height, width = thing.alpha.shape
    scale = min(max(room) * layout.size(rng) / max(height, width), layout.enlarged)
    side = int(np.ceil(float(np.hypot(height, width)) * scale)) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), scale)
    matrix[:, 2] += side / 2 - np.array([width / 2, height / 2])
    alpha = cv2.warpAffine(thing.alpha, matrix, (side, side), flags=cv2.INTER_AREA)
    colour = cv2.warpAffine(thing.colour, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    if not len(rows) or not len(columns):  # too thin at this size
        return colour.astype(np.float32), alpha
    end = min(rows[-1] + 1, rows[0] + room[0]), min(columns[-1] + 1, columns[0] + room[1])
    cut = (slice(rows[0], end[0]), slice(columns[0], end[1]))
    return colour[cut].astype(np.float32), alpha[cut]


def _shade(canvas: Floats, alpha: Floats, top: int, left: int, rng: np.random.Generator) -> None:
    """Darken the background where the object's shadow falls."""
    shadow = np.zeros(canvas.shape[:2], np.float32)
    down, right = (int(rng.integers(-10, 11)) for _ in range(2))
    below, beside = max(0, top + down), max(0, left + right)
    visible = shadow[below : below + alpha.shape[0], beside : beside + alpha.shape[1]]
    visible[:] = alpha[: visible.shape[0], : visible.shape[1]]
    canvas *= 1 - rng.uniform(0, 0.5) * cv2.GaussianBlur(shadow, (0, 0), 6)[..., None]


def write_composites(
    sources: Sequence[Sequence[CutOut]],
    grounds: Sequence[Path],
    output: Path,
    count: int,
    *,
    seed: int,
    layout: Layout = CLOSE_UP,
) -> None:
    """Write `count` composites to the folder `output` (`images/`, `labels/`).

    All classes are equally frequent, and of a class all `sources` that have it. Raises FileNotFoundError without grounds.
    """
    pictures = [picture for picture in (cv2.imread(str(path)) for path in grounds) if picture is not None]
    if not pictures:
        raise FileNotFoundError("no photos of backgrounds: see training/README.md")
    classes = _by_class(sources)
    rng = np.random.default_rng(seed)
    empty_folder(output)
    for index in tqdm(range(count), "composing"):
        amount = 0 if rng.random() < EMPTY else int(rng.integers(1, layout.objects + 1))
        chosen = _drawn(classes, amount, rng)
        write_photo(output, index, *compose(_one_of(pictures, rng), chosen, rng, layout))


def write_pasted(photos: Sequence[LabelledPhoto], sources: Sequence[Sequence[CutOut]], output: Path, *, seed: int) -> None:
    """Write each of `photos` with one or two more objects pasted into it to the folder `output`.

    Real places as backgrounds, with what is there (Ghiasi et al., Simple Copy-Paste, CVPR 2021). Classes and `sources` are
    equally frequent, as in `write_composites`.
    """
    classes = _by_class(sources)
    rng = np.random.default_rng(seed)
    empty_folder(output)
    for index, photo in enumerate(tqdm(photos, "pasting")):
        image = cv2.imread(str(photo.path))
        if image is None:
            continue
        chosen = _drawn(classes, int(rng.integers(1, PASTED + 1)), rng)
        labels = list(zip(photo.categories, photo.boxes.tolist(), strict=True))
        write_photo(output, index, *paste(image, chosen, rng, AT_A_DISTANCE, labels))


def _by_class(sources: Sequence[Sequence[CutOut]]) -> list[list[list[CutOut]]]:
    """For each class, its objects in each of the sources that have it."""
    by_class: defaultdict[int, list[list[CutOut]]] = defaultdict(list)
    for source in sources:
        for category in sorted({thing.category for thing in source}):
            by_class[category].append([thing for thing in source if thing.category == category])
    return [by_class[category] for category in sorted(by_class)]


def _drawn(classes: Sequence[Sequence[Sequence[CutOut]]], amount: int, rng: np.random.Generator) -> list[CutOut]:
    """So many objects, each of any class, of any source that has it."""
    return [_one_of(_one_of(_one_of(classes, rng), rng), rng) for _ in range(amount)]


def _one_of(items: Sequence[ItemT], rng: np.random.Generator) -> ItemT:
    return items[int(rng.integers(len(items)))]
