"""The report of an evaluation: `evaluate.py` makes it, the gates judge it."""

from __future__ import annotations

from dataclasses import dataclass

from bunriwiki.artifacts.answers import Classification, Detections
from model_sync.evaluation.latency import Pairs

Answer = Classification | Detections


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The answers and latencies of a candidate, compared with those of the serving version.

    golden: for each golden sample, how the candidate's answer differs from the original's; None if it agrees.
    reference: the candidate's answers to the reference set, in its order, requested in batches.
    serving: the same of the serving version.
    positions, alone: the candidate's answers to the inputs at these positions of the reference set, requested one at a time.
    milliseconds: for these inputs but the first ones, the latency of the candidate and of the serving version, without the time
        in which they waited for a CPU core.
    """

    golden: tuple[str | None, ...]
    reference: tuple[Answer, ...]
    serving: tuple[Answer, ...]
    positions: tuple[int, ...]
    alone: tuple[Answer, ...]
    milliseconds: Pairs
