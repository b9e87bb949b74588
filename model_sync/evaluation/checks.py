"""Validates the answers of third-party code before anything is concluded from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bunriwiki.artifacts.answers import Classification, Detections, Failure
from bunriwiki.artifacts.manifest import Manifest
from model_sync.errors import RejectedError
from model_sync.evaluation.report import Answer
from model_sync.sandbox.output import printable

MAX_BOXES = 1000  # per photo; our graphs return at most 300. Each box is compared with every other, so the number is bounded


def check_answers(answers: Sequence[Answer | Failure], expected: int, manifest: Manifest) -> list[Answer]:
    """Return the answers to `expected` inputs.

    Raises RejectedError unless there is an answer for each input, in the manifest's classes, with scores from 0 to 1.
    """
    if len(answers) != expected:
        raise RejectedError(f"{len(answers)} answers to {expected} inputs")
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    if failures:
        raise RejectedError(f"{len(failures)} of {expected} inputs failed: {printable(failures[0].message)}")
    labels = {label.name for label in manifest.labels}
    checked = [answer for answer in answers if not isinstance(answer, Failure)]
    for answer in checked:
        _check_classes(answer, labels)
        _check_numbers(answer)
    return checked


def _check_classes(answer: Answer, labels: set[str]) -> None:
    named: set[Any]
    if isinstance(answer, Classification):
        named = {answer.label, *answer.details}
        if missing := labels - answer.details.keys():
            raise RejectedError(printable(f"an answer has no score for the classes {sorted(missing)[:10]}"))
    else:
        named = {box.label for box in answer.detections}
    if unknown := named - labels:
        raise RejectedError(printable(f"an answer has classes that are not in the manifest: {sorted(unknown)[:10]}"))


def _check_numbers(answer: Answer) -> None:
    if isinstance(answer, Detections):
        if len(answer.detections) > MAX_BOXES:
            raise RejectedError(f"an answer has {len(answer.detections)} boxes; at most {MAX_BOXES} are allowed")
        scores = [box.score for box in answer.detections]
        edges = [edge for box in answer.detections for edge in box.box]
        if not all(math.isfinite(edge) for edge in edges):
            raise RejectedError("an answer has a box whose edges are not finite numbers")
    else:
        scores = [answer.score, *answer.details.values()]
    for score in scores:
        if not 0 <= score <= 1:  # also false for NaN
            raise RejectedError(f"an answer has the score {score}, which is not a number from 0 to 1")
