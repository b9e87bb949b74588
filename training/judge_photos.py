"""Evaluates the detector."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from tqdm import tqdm

from bunriwiki.artifacts.answers import Detections, Failure
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE, DEFAULT_IOU, Photo
from runners.yolo import Yolo
from training.cards import Report, table
from training.composites import write_composites
from training.metrics import Boxes, average_precision, calibration_error
from training.photos import CLASSES, LabelledPhoto, grounds, load_photos, split_photos

log = logging.getLogger("training.judge_photos")

MIN = 0.001  # confidence: average precision takes every box into account
COMPOSITES = 300
COMPOSITES_SEED = 100
SHOWN = 15  # examples
NOTHING = "nothing"


def judge_yolo(folder: Path, data: Path, output: Path) -> Report:
    """Evaluate on the blocks of photos kept for it, and on composites of them with backgrounds kept for it."""
    detector = Yolo(folder)
    test = split_photos(load_photos(data / "recyclables"))["test"]
    under = grounds(data / "grounds")["test"]
    answers, took = _answers(detector, test)
    truth = [corners(photo) for photo in test]
    found = [boxes_of(answer) for answer in answers]
    precision = average_precision(found, truth)
    inner = [index for index, photo in enumerate(test) if not photo.at_edge]
    on_inner = average_precision([found[index] for index in inner], [truth[index] for index in inner])
    without = [value for category, value in precision.items() if CLASSES[category] != "trash"]

    write_composites(test, under, output / "composites", COMPOSITES, COMPOSITES_SEED)
    made = load_photos(output / "composites")
    on_made = average_precision(
        [boxes_of(answer) for answer in _answers(detector, made)[0]], [corners(photo) for photo in made]
    )

    served = [_surest(answer) for answer in answers]
    right = np.array([name == CLASSES[photo.categories[0]] for (name, _), photo in zip(served, test, strict=True)])
    confidences = np.array([confidence for _, confidence in served])
    some = np.array([name != NOTHING for name, _ in served])
    figures = {
        "photos": f"{len(test):,}",
        "mAP50": f"{_mean(precision):.3f}",
        "mAP50-95": f"{np.mean([ap for _, ap in precision.values()]):.3f}",
        f"mAP50 of the {len(inner)} that are not at the edge of a block": f"{_mean(on_inner):.3f}",
        "mAP50 without `trash`": f"{np.mean([ap for ap, _ in without]):.3f}",
        **{f"AP50 `{CLASSES[category]}`": f"{ap:.3f}" for category, (ap, _) in sorted(precision.items())},
        f"photos whose surest box (confidence {DEFAULT_CONFIDENCE}) has the right class": f"{right.mean():.3f}",
        "expected calibration error of that box's class": f"{calibration_error(confidences[some], right[some]):.3f}",
        f"mAP50 on {COMPOSITES} composites over other grounds": f"{_mean(on_made):.3f}",
    }
    matrix = _confusion([CLASSES[photo.categories[0]] for photo in test], [name for name, _ in served])
    wrong = sorted(np.flatnonzero(~right), key=lambda one: -served[one][1])[:SHOWN]
    examples = [
        "## The worst\n",
        table(
            ["photo", "true", "answered", "confidence"],
            [[test[one].path.name, CLASSES[test[one].categories[0]], served[one][0], f"{served[one][1]:.3f}"] for one in wrong],
        ),
        "\n## The slowest\n",
        table(["photo", "ms"], [[test[one].path.name, f"{took[one]:.1f}"] for one in np.argsort(took)[::-1][:SHOWN]]),
        f"\nThe median: {np.median(took):.1f} ms.",
    ]
    for one in wrong:
        draw(test[one].path, answers[one], output / "wrong" / test[one].path.name)
    return Report(figures, matrix, "\n".join(examples))


def _mean(precision: Mapping[int, tuple[float, float]]) -> float:
    return float(np.mean([at_half for at_half, _ in precision.values()]))


def corners(photo: LabelledPhoto) -> Boxes:
    """The photo's boxes in pixels, as x1, y1, x2, y2."""
    with Image.open(photo.path) as image:
        upright = ImageOps.exif_transpose(image).size
    scale = np.array([*upright, *upright])
    centre, side = photo.boxes[:, :2], photo.boxes[:, 2:]
    return Boxes.of((np.hstack([centre - side / 2, centre + side / 2]) * scale).tolist(), photo.categories)


def draw(photo: Path, answer: Detections, output: Path) -> None:
    """The photo with the boxes that would be served."""
    with Image.open(photo) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    pen = ImageDraw.Draw(image)
    for found in answer.detections:
        if found.score >= DEFAULT_CONFIDENCE:
            pen.rectangle(found.box, outline="red", width=2)
            pen.text(
                (found.box[0] + 3, found.box[1] + 1),
                f"{found.label} {found.score:.2f}",
                fill="red",
                stroke_width=1,
                stroke_fill="white",
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    image.save(output)


def draw_all(folder: Path, photos: Path, output: Path) -> None:
    """Draw what the detector in `folder` would serve for each photo in `photos`."""
    detector = Yolo(folder)
    for photo in sorted(photo for photo in photos.iterdir() if photo.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"}):
        [answer] = detector.predict([Photo(data=photo.read_bytes())]).results
        if isinstance(answer, Failure):
            log.warning("%s: %s", photo.name, answer.message)
        else:
            draw(photo, answer, output / photo.name)


def _answers(detector: Yolo, photos: Sequence[LabelledPhoto]) -> tuple[list[Detections], list[float]]:
    """The answers, and the milliseconds that each took."""
    found, took = [], []
    for photo in tqdm(photos, detector.version):
        started = time.perf_counter()
        [answer] = detector.predict([Photo(data=photo.path.read_bytes(), confidence=MIN, iou=DEFAULT_IOU)]).results
        took.append(1000 * (time.perf_counter() - started))
        if not isinstance(answer, Detections):
            raise TypeError(f"{photo.path}: {answer.message}")
        found.append(answer)
    return found, took


def boxes_of(answer: Detections) -> Boxes:
    """The answer's boxes, with classes as indices of CLASSES."""
    found = answer.detections
    return Boxes.of([one.box for one in found], [CLASSES.index(one.label) for one in found], [one.score for one in found])


def _surest(answer: Detections) -> tuple[str, float]:
    served = [(one.label, one.score) for one in answer.detections if one.score >= DEFAULT_CONFIDENCE]
    return served[0] if served else (NOTHING, 0.0)


def _confusion(truth: Sequence[str], answered: Sequence[str]) -> str:
    counts = Counter(zip(truth, answered, strict=True))
    names = [*CLASSES, NOTHING]
    return table(["true, answered", *names], [[f"**{one}**", *(counts[one, other] for other in names)] for one in CLASSES])
