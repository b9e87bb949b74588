"""What a version did beside the one that serves: `evaluation.py` writes it down, the gates judge it."""

from __future__ import annotations

from dataclasses import dataclass

from bunriwiki.artifacts.answers import Classification, Detections

Answer = Classification | Detections


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """A version of one model beside the one that serves.

    `golden` says how the answers to golden samples differ from the original's, None for one that agrees. `reference` are the
    answers to the reference set in its order, asked for in batches, and `serving` those of the serving version. `alone` are the
    answers to the inputs at `positions` of the reference set, asked for one at a time. `milliseconds` are what the version and
    the serving one took for the same input alone, pair by pair.
    """

    golden: tuple[str | None, ...]
    reference: tuple[Answer, ...]
    serving: tuple[Answer, ...]
    positions: range
    alone: tuple[Answer, ...]
    milliseconds: tuple[tuple[float, float], ...]
