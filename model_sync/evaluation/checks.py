"""What an answer of other people's code has to be before anything is concluded from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bunriwiki.artifacts.answers import Classification, Detections, Failure
from bunriwiki.artifacts.manifest import Manifest
from model_sync.errors import RejectedError
from model_sync.evaluation.report import Answer
from model_sync.sandbox.output import printable

MAX_BOXES = 1000  # in a photo: the shipped graphs give 300 at most, and every box is compared with every other


def check_answers(answers: Sequence[Answer | Failure], expected: int, manifest: Manifest) -> list[Answer]:
    """The answers, where there is one for each of `expected` inputs, in the manifest's classes, with scores from 0 to 1.

    Raises RejectedError otherwise.
    """
    if len(answers) != expected:
        raise RejectedError(f"{len(answers)} answers to {expected} inputs")
    failed = [one for one in answers if isinstance(one, Failure)]
    if failed:
        raise RejectedError(f"{len(failed)} of {expected} inputs failed: {printable(failed[0].message)}")
    labels = {label.name for label in manifest.labels}
    whole = [one for one in answers if not isinstance(one, Failure)]
    for one in whole:
        _check_classes(one, labels)
        _check_numbers(one)
    return whole


def _check_classes(answer: Answer, labels: set[str]) -> None:
    said: set[Any]
    if isinstance(answer, Classification):
        said = {answer.label, *answer.details}
        if missing := labels - answer.details.keys():
            raise RejectedError(printable(f"an answer has no score for the classes {sorted(missing)[:10]}"))
    else:
        said = {box.label for box in answer.detections}
    if unknown := said - labels:
        raise RejectedError(printable(f"an answer has classes that the manifest does not have: {sorted(unknown)[:10]}"))


def _check_numbers(answer: Answer) -> None:
    if isinstance(answer, Detections):
        if len(answer.detections) > MAX_BOXES:
            raise RejectedError(f"an answer has {len(answer.detections)} boxes; at most {MAX_BOXES} are looked at")
        scores = [box.score for box in answer.detections]
        edges = [edge for box in answer.detections for edge in box.box]
        if not all(math.isfinite(edge) for edge in edges):
            raise RejectedError("an answer has a box whose edges are no numbers")
    else:
        scores = [answer.score, *answer.details.values()]
    for score in scores:
        if not 0 <= score <= 1:  # which NaN is not, either
            raise RejectedError(f"an answer has the score {score}, which is no number from 0 to 1")
