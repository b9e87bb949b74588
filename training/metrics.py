"""Measures of quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap
from ultralytics.utils.metrics import ap_per_class

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the overlap, as COCO counts
BINS = 15

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Boxes of a photo, [boxes, 4] as x1, y1, x2, y2, with a class each; `scores` and `uncertain` ones if they are answers."""

    corners: Floats
    classes: Ints
    scores: Floats
    uncertain: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        boxes: Sequence[Sequence[float]],
        classes: Sequence[int],
        scores: Sequence[float] | None = None,
        uncertain: Sequence[bool] | None = None,
    ) -> Boxes:
        return cls(
            np.array(boxes, dtype=float).reshape(-1, 4),
            np.array(classes, dtype=np.int64),
            np.array([1.0] * len(classes) if scores is None else scores, dtype=float),
            np.array([False] * len(classes) if uncertain is None else uncertain, dtype=bool),
        )


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of each of [n, 4] with each of [m, 4], as [n, m]."""
    corner = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    common = corner.clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    together: Floats = areas[0][:, None] + areas[1][None, :] - common
    return common / np.maximum(together, 1e-9)


def average_precision(answers: Sequence[Boxes], truth: Sequence[Boxes]) -> dict[int, tuple[float, float]]:
    """For each class in `truth`: average precision at an overlap of 0.5, and the mean over 0.5 to 0.95."""
    hits = [_hits(answer, right) for answer, right in zip(answers, truth, strict=True)]
    found = ap_per_class(
        np.concatenate(hits),
        np.concatenate([answer.scores for answer in answers]),
        np.concatenate([answer.classes for answer in answers]),
        np.concatenate([right.classes for right in truth]),
    )
    precision, classes = found[5], found[6]
    return {int(name): (float(row[0]), float(row.mean())) for name, row in zip(classes, precision, strict=True)}


def _hits(answer: Boxes, right: Boxes) -> npt.NDArray[np.bool_]:
    """Whether each answer is right, at each threshold, [answers, thresholds]: the most confident answer chooses first."""
    hits = np.zeros((len(answer.scores), len(THRESHOLDS)), dtype=bool)
    fit = overlaps(answer.corners, right.corners) * (answer.classes[:, None] == right.classes[None, :])
    for column, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(right.classes), dtype=bool)
        for row in np.argsort(-answer.scores, kind="stable"):
            candidates = np.where(free, fit[row], 0)
            if candidates.size and candidates.max() >= threshold:
                free[candidates.argmax()] = False
                hits[row, column] = True
    return hits


def calibration_error(confidences: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over 15 equal bins, weighted by their size."""
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    gaps = [abs(confidences[bins == k].mean() - right[bins == k].mean()) * (bins == k).sum() for k in np.unique(bins)]
    return float(sum(gaps) / len(confidences))


def macro_f1_interval(labels: Ints, chosen: Ints, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of macro-F1 over 1,000 bootstrap samples."""
    drawn = bootstrap(
        (labels, chosen),
        macro_f1,
        paired=True,
        vectorized=True,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def macro_f1(labels: Ints, chosen: Ints, axis: int = -1) -> Any:
    """The mean F1 along `axis` of the classes that a sample has, as scikit-learn's `f1_score`, for many samples at once."""
    totals = []
    for number in np.union1d(labels, chosen):
        right, predicted = labels == number, chosen == number
        totals.append([np.sum(right & predicted, axis=axis), np.sum(right, axis=axis) + np.sum(predicted, axis=axis)])
    both, either = np.moveaxis(np.array(totals, dtype=np.float64), 1, 0)
    scores = np.divide(2 * both, either, out=np.full_like(both, np.nan), where=either > 0)
    return np.nanmean(scores, axis=0)
