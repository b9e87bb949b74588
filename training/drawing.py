"""Draws what a detector would serve."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from bunriwiki.artifacts.answers import Detections, Failure
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE, Photo
from runners.yolo import Yolo

log = logging.getLogger("training.drawing")

COLUMNS = 6
TILE = 260  # pixels


def draw(photo: Path, answer: Detections, output: Path) -> None:
    """The photo with the boxes that would be served; an uncertain class has a question mark."""
    with Image.open(photo) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    pen = ImageDraw.Draw(image)
    width = max(2, max(image.size) // 200)
    for found in answer.detections:
        if found.score >= DEFAULT_CONFIDENCE:
            pen.rectangle(found.box, outline="red", width=width)
            pen.text(
                (max(0, found.box[0]) + width + 1, max(0, found.box[1]) + width),
                f"{found.label}{'?' * found.uncertain} {found.score:.2f}",
                fill="red",
                font_size=max(11, max(image.size) // 22),
                stroke_width=width // 2,
                stroke_fill="white",
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    image.save(output)


def contact_sheet(drawn: Sequence[Path], output: Path) -> None:
    """One picture of all the drawn photos, in rows of COLUMNS."""
    rows = -(-len(drawn) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * TILE), "white")
    for index, path in enumerate(drawn):
        with Image.open(path) as image:
            image.thumbnail((TILE - 4, TILE - 4), Image.Resampling.LANCZOS)
            sheet.paste(image, (index % COLUMNS * TILE + 2, index // COLUMNS * TILE + 2))
    sheet.save(output, quality=85)


def draw_all(folder: Path, photos: Path, output: Path) -> None:
    """Draw what the detector in `folder` would serve for each photo in `photos`."""
    detector = Yolo(folder)
    for photo in sorted(photo for photo in photos.iterdir() if photo.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}):
        [answer] = detector.predict([Photo(data=photo.read_bytes())]).results
        if isinstance(answer, Failure):
            log.warning("%s: %s", photo.name, answer.message)
        else:
            draw(photo, answer, output / photo.name)
