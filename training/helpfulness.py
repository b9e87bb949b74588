"""What the answers to photos are worth to a person who wants to sort what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.metrics import Boxes, Floats, overlaps

SAME_PLACE = 0.5  # overlap, as for mAP50
TOUCHED = 0.1  # overlap: less is not about the object


@dataclass(frozen=True)
class Helpfulness:
    """Shares of the photos, 0..1, at a confidence that boxes must have.

    found: some box is on an object, of whatever class.
    right: the surest box is on an object and has its class.
    wrong: the surest box sends its object into the wrong bin. Each class has a bin of its own, so that is another class than
    that of the object that it overlaps most; a box on no object sends something into a bin where nothing is.

    A photo whose surest box is uncertain is neither right nor wrong: no bin is advised.
    """

    found: float
    right: float
    wrong: float


def helpfulness(answers: Sequence[Boxes], truth: Sequence[Boxes], confidence: float) -> Helpfulness:
    """The three shares. Boxes with scores below `confidence` are not served."""
    judged = [_judge(answer, right, confidence) for answer, right in zip(answers, truth, strict=True)]
    return Helpfulness(*np.mean(judged, axis=0).tolist())


def sweep(answers: Sequence[Boxes], truth: Sequence[Boxes], confidences: Sequence[float]) -> list[tuple[float, Helpfulness]]:
    """The three shares at each confidence: what a default confidence is chosen on."""
    return [(confidence, helpfulness(answers, truth, confidence)) for confidence in confidences]


def surest(answers: Sequence[Boxes], truth: Sequence[Boxes], confidence: float) -> tuple[Floats, Floats]:
    """Of the photos with a box: the surest box's score, and 1 if it is on an object and has its class, else 0.

    Whether it is uncertain does not matter here: a score says how often the class is right.
    """
    served = [
        (answer, right) for answer, right in zip(answers, truth, strict=True) if answer.scores.max(initial=0) >= confidence
    ]
    scores = np.array([answer.scores.max() for answer, _ in served])
    return scores, np.array([float(_is_right(answer, right)) for answer, right in served])


def _judge(answer: Boxes, truth: Boxes, confidence: float) -> tuple[bool, bool, bool]:
    served = answer.scores >= confidence
    if not served.any():
        return False, False, False
    fit = overlaps(answer.corners, truth.corners)
    first = int(answer.scores.argmax())
    found = bool((fit[served].max(initial=0)) >= SAME_PLACE)
    right = _is_right(answer, truth)
    touched = fit[first].max(initial=0)
    wrong = touched < TOUCHED or bool(truth.classes[fit[first].argmax()] != answer.classes[first])
    advised = not answer.uncertain[first]
    return found, right and advised, wrong and not right and advised


def _is_right(answer: Boxes, truth: Boxes) -> bool:
    """Whether the surest box is on an object and has its class."""
    first = int(answer.scores.argmax())
    fit = overlaps(answer.corners[[first]], truth.corners)[0]
    return bool(fit[truth.classes == answer.classes[first]].max(initial=0) >= SAME_PLACE)
