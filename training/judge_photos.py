"""Evaluates the detector."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from tqdm import tqdm

from bunriwiki.artifacts.answers import Detections
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE, DEFAULT_IOU, Photo
from runners.yolo import Yolo
from training.cards import Report, table
from training.composites import write_composites
from training.cutouts import cut_out_all
from training.drawing import contact_sheet, draw
from training.helpfulness import helpfulness, surest, sweep
from training.metrics import Boxes, average_precision, calibration_error
from training.photos import (
    CLASSES,
    LabelledPhoto,
    evenly,
    grounds,
    load_photos,
    other_places,
    shippable,
    split_by_scene,
    split_photos,
)

MIN = 0.001  # confidence: average precision takes every box into account
COMPOSITES = 300
COMPOSITES_SEED = 100
SHEET = 24  # photos in context, drawn on one sheet
SHOWN = 15  # examples
SWEPT = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # confidences, to choose a default
NOTHING = "nothing"


@dataclass(frozen=True)
class Answered:
    """Photos and a detector's answers to them, with the milliseconds that each took."""

    photos: Sequence[LabelledPhoto]
    answers: Sequence[Detections]
    took: Sequence[float]

    @cached_property
    def truth(self) -> list[Boxes]:
        return [corners(photo) for photo in self.photos]

    @cached_property
    def found(self) -> list[Boxes]:
        return [boxes_of(answer) for answer in self.answers]

    def precision(self) -> dict[int, tuple[float, float]]:
        """Average precision of each class: `training.metrics.average_precision`."""
        return average_precision(self.found, self.truth)

    def only(self, indices: Sequence[int]) -> Answered:
        """The photos with these indices."""
        return Answered(
            [self.photos[index] for index in indices],
            [self.answers[index] for index in indices],
            [self.took[index] for index in indices],
        )


def judge_yolo(folder: Path, data: Path, output: Path) -> Report:
    """Evaluate on the blocks of photos kept for it, composites of them over kept backgrounds, kept scenes, and other places."""
    detector = Yolo(folder)
    test = _answered(detector, split_photos(load_photos(data / "recyclables"))["test"])
    under = grounds(data / "grounds")["test"]
    write_composites([cut_out_all(test.photos)], under, output / "composites", COMPOSITES, seed=COMPOSITES_SEED)
    made = _answered(detector, load_photos(output / "composites"))
    scenes = _answered(detector, split_by_scene(load_photos(data / "litter"))["test"])
    places = {source: _answered(detector, photos) for source, photos in other_places(data).items()}

    served = [_surest(answer) for answer in test.answers]
    right = np.array([name == CLASSES[photo.categories[0]] for (name, _), photo in zip(served, test.photos, strict=True)])
    wrong = sorted(np.flatnonzero(~right).tolist(), key=lambda one: -served[one][1])[:SHOWN]
    figures = {**_on_close_ups(test, served, right, _mean(made.precision())), **_on_scenes(scenes)}
    for source, answered in places.items():
        figures |= {f"photos of {source} in other places": f"{len(answered.photos)}", **_shares(answered, source)}
    matrix = _confusion([CLASSES[photo.categories[0]] for photo in test.photos], [name for name, _ in served])
    examples = [
        "## The worst\n",
        table(
            ["photo", "true", "answered", "confidence"],
            [
                [test.photos[one].path.name, CLASSES[test.photos[one].categories[0]], served[one][0], f"{served[one][1]:.3f}"]
                for one in wrong
            ],
        ),
        "\n## The slowest\n",
        table(
            ["photo", "ms"],
            [[test.photos[one].path.name, f"{test.took[one]:.1f}"] for one in np.argsort(test.took)[::-1][:SHOWN].tolist()],
        ),
        f"\nThe median: {np.median(test.took):.1f} ms.",
        "\n## In context, by confidence\n",
        table(
            ["confidence", "found", "right", "wrong advice"],
            [
                [confidence, *(f"{share:.2f}" for share in astuple(shares))]
                for confidence, shares in sweep(scenes.found, scenes.truth, SWEPT)
            ],
        ),
    ]
    for one in wrong:
        draw(test.photos[one].path, test.answers[one], output / "wrong" / test.photos[one].path.name)
    for name, answered in {"scenes": scenes, **places}.items():
        for photo, answer in zip(answered.photos, answered.answers, strict=True):
            draw(photo.path, answer, output / name / photo.path.name)
    contact_sheet(
        [output / "scenes" / photo.path.name for photo in evenly(shippable(scenes.photos), SHEET)], output / "sheet.jpg"
    )
    return Report(figures, matrix, "\n".join(examples))


def _on_close_ups(
    test: Answered, served: Sequence[tuple[str, float]], right: npt.NDArray[np.bool_], on_composites: float
) -> dict[str, str]:
    precision = test.precision()
    inner = [index for index, photo in enumerate(test.photos) if not photo.at_edge]
    without = [ap for category, (ap, _) in precision.items() if CLASSES[category] != "trash"]
    some = np.array([name != NOTHING for name, _ in served])
    confidences = np.array([confidence for _, confidence in served])
    return {
        "photos": f"{len(test.photos):,}",
        "mAP50": f"{_mean(precision):.3f}",
        "mAP50-95": f"{np.mean([ap for _, ap in precision.values()]):.3f}",
        f"mAP50 of the {len(inner)} that are not at the edge of a block": f"{_mean(test.only(inner).precision()):.3f}",
        "mAP50 without `trash`": f"{np.mean(without):.3f}",
        **{f"AP50 `{CLASSES[category]}`": f"{ap:.3f}" for category, (ap, _) in sorted(precision.items())},
        f"photos whose surest box (confidence {DEFAULT_CONFIDENCE}) has the right class": f"{right.mean():.3f}",
        "expected calibration error of that box's class": f"{calibration_error(confidences[some], right[some]):.3f}",
        f"mAP50 on {COMPOSITES} composites over other grounds": f"{on_composites:.3f}",
    }


def _on_scenes(scenes: Answered) -> dict[str, str]:
    """The figures of photos in context."""
    precision = scenes.precision()
    confidences, right = surest(scenes.found, scenes.truth, DEFAULT_CONFIDENCE)
    return {
        "photos in context": f"{len(scenes.photos):,}",
        "in context: mAP50": f"{_mean(precision):.3f}",
        **{f"in context: AP50 `{CLASSES[category]}`": f"{ap:.3f}" for category, (ap, _) in sorted(precision.items())},
        **_shares(scenes, "in context"),
        "in context: expected calibration error of the surest box": (
            f"{calibration_error(confidences, right > 0):.3f}" if len(right) else "no boxes"
        ),
    }


def _shares(answered: Answered, where: str) -> dict[str, str]:
    """What the answers are worth at the default confidence: `training.helpfulness` says what the shares are."""
    shares = helpfulness(answered.found, answered.truth, DEFAULT_CONFIDENCE)
    return {
        f"{where}: found (confidence {DEFAULT_CONFIDENCE})": f"{shares.found:.3f}",
        f"{where}: right": f"{shares.right:.3f}",
        f"{where}: wrong advice": f"{shares.wrong:.3f}",
    }


def _mean(precision: Mapping[int, tuple[float, float]]) -> float:
    return float(np.mean([at_half for at_half, _ in precision.values()]))


def corners(photo: LabelledPhoto) -> Boxes:
    """The photo's boxes in pixels, as x1, y1, x2, y2."""
    with Image.open(photo.path) as image:
        upright = ImageOps.exif_transpose(image).size
    scale = np.array([*upright, *upright])
    centre, side = photo.boxes[:, :2], photo.boxes[:, 2:]
    return Boxes.of((np.hstack([centre - side / 2, centre + side / 2]) * scale).tolist(), photo.categories)


def _answered(detector: Yolo, photos: Sequence[LabelledPhoto]) -> Answered:
    found, took = [], []
    for photo in tqdm(photos, detector.version):
        started = time.perf_counter()
        [answer] = detector.predict([Photo(data=photo.path.read_bytes(), confidence=MIN, iou=DEFAULT_IOU)]).results
        took.append(1000 * (time.perf_counter() - started))
        if not isinstance(answer, Detections):
            raise TypeError(f"{photo.path}: {answer.message}")
        found.append(answer)
    return Answered(photos, found, took)


def boxes_of(answer: Detections) -> Boxes:
    """The answer's boxes, with classes as indices of CLASSES."""
    found = answer.detections
    return Boxes.of(
        [one.box for one in found],
        [CLASSES.index(one.label) for one in found],
        [one.score for one in found],
        [one.uncertain for one in found],
    )


def _surest(answer: Detections) -> tuple[str, float]:
    served = [(one.label, one.score) for one in answer.detections if one.score >= DEFAULT_CONFIDENCE]
    return served[0] if served else (NOTHING, 0.0)


def _confusion(truth: Sequence[str], answered: Sequence[str]) -> str:
    counts = Counter(zip(truth, answered, strict=True))
    names = [*CLASSES, NOTHING]
    return table(["true, answered", *names], [[f"**{one}**", *(counts[one, other] for other in names)] for one in CLASSES])
