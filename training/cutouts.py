"""Objects cut out of photos, for `training.composites`.

Of TrashNet's photos only boxes are known, but the background is plain: GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004)
finds the mask. Of TACO's photos the outlines are known: polygons drawn by people.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.metrics import overlaps
from training.photos import LabelledPhoto

LARGEST_BOX = 0.9  # of a photo: a larger object has no background around it for GrabCut to learn from
FILL = (0.3, 0.97)  # of its box; a mask outside of it has failed
SAME_BOX = 0.8  # overlap of an outline's box with the label's
SMALLEST = 24  # pixels: the longer side of an outlined object; a smaller one is a blot when it is placed elsewhere

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outlines = Mapping[int, Sequence[Mapping[str, Any]]]  # of a photo's number in TACO


@dataclass(frozen=True)
class CutOut:
    """An object without its background: `colour` [height, width, 3] (BGR) and `alpha` [height, width], 0..1."""

    category: int
    colour: Image
    alpha: Floats


def cut_out_all(photos: Sequence[LabelledPhoto]) -> list[CutOut]:
    """The objects of TrashNet's photos that can be cut out."""
    with ThreadPoolExecutor() as pool:
        things = list(tqdm(pool.map(cut_out, photos), "cutting out", len(photos)))
    return [thing for thing in things if thing is not None]


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
    return CutOut(photo.categories[0], image[box], _softened(solid)[box])


def _largest_part(mask: Image) -> Image:
    count, parts, figures, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    part = (parts == 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(part, outlines, -1, 1, cv2.FILLED)  # without holes: the mask of glass would be full of them


def _softened(solid: Image) -> Floats:
    return cv2.GaussianBlur(cv2.erode(solid, np.ones((3, 3), np.uint8)).astype(np.float32), (3, 3), 0)


def read_outlines(annotations: Path) -> Outlines:
    """TACO's annotations (`data/annotations.json` of github.com/pedropro/TACO): for each photo's number, its objects.

    Each has `polygons` and `box` (x1, y1, x2, y2), in shares of the photo.
    """
    content = json.loads(annotations.read_text(encoding="utf-8"))
    sizes = {image["id"]: np.array([image["width"], image["height"]], dtype=float) for image in content["images"]}
    found: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for one in content["annotations"]:
        size = sizes[one["image_id"]]
        polygons = [np.array(polygon).reshape(-1, 2) / size for polygon in one["segmentation"]]
        left_top, side = np.array(one["bbox"]).reshape(2, 2) / size
        found[one["image_id"]].append({"polygons": polygons, "box": np.concatenate([left_top, left_top + side])})
    return found


def cut_out_outlined(photo: LabelledPhoto, outlines: Outlines) -> list[CutOut]:
    """The labelled objects of a photo of TACO for which there is an outline."""
    image = cv2.imread(str(photo.path))
    drawn = outlines.get(int(photo.path.stem.rsplit("-", 1)[1]), [])
    if image is None or not drawn or not photo.categories:
        return []
    height, width = image.shape[:2]
    centre, side = photo.boxes[:, :2], photo.boxes[:, 2:]
    fit = overlaps(np.array([one["box"] for one in drawn]), np.hstack([centre - side / 2, centre + side / 2]))
    things = []
    for outline, row in zip(drawn, fit, strict=True):
        if row.max() < SAME_BOX:
            continue
        solid = np.zeros((height, width), np.uint8)
        for polygon in outline["polygons"]:
            cv2.fillPoly(solid, [np.round(polygon * (width, height)).astype(np.int32)], 1)
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if max(len(rows), len(columns)) >= SMALLEST:
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            things.append(CutOut(photo.categories[int(row.argmax())], image[box], _softened(solid)[box]))
    return things
