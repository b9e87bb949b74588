"""The gates that a candidate must pass before it may serve: pure functions of its evaluation report (`report.py`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE
from bunriwiki.artifacts.reference import ReferencePhoto
from model_sync.evaluation.latency import CONFIDENCE, Interval, Pairs, Side, enough, own_latency, slowdown
from model_sync.evaluation.quality import Truth, by_kind, class_scores, guessing, quality
from model_sync.evaluation.report import Answer, EvaluationReport

CLASS_FLOOR = 0.5  # of what guessing reaches: a class below it is not recognised, or has the name of another


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of the gates; docs/settings.md explains them.

    agreement: the share of golden samples, 0..1, that must be answered as the original model does.
    quality: how many points of macro F1 (0..100) the candidate may be worse than the serving version. On each kind of photos
        it may be worse by that times the root of all photos over those of the kind.
    batch: how far a score (0..1) may differ between an input alone and the same input in a batch.
    latency: how many times as long as the serving version the candidate may take.
    labels: `same`, or `any` if the set of classes may change.

    For the first version of a registry, in place of `quality` and `latency`:

    floor: the share, 0..1, of the way from guessing to perfect answers that its macro F1 must reach; 0: no floor.
    floor_seconds: how long it may take for an input.
    """

    agreement: float
    quality: float
    batch: float
    latency: float
    labels: str
    floor: float = 0.2
    floor_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a gate; `says` is a sentence about it.

    `undecided`: the measurement is too inexact to say whether it passed, which another one may not be.
    """

    gate: str
    passed: bool
    says: str
    undecided: bool = False


def judge_labels(labels: Sequence[str], serving: Sequence[str], thresholds: Thresholds) -> Finding:
    """Whether the classes are those of the serving version, in any order, or others are allowed."""
    lost, new = sorted(set(serving) - set(labels)), sorted(set(labels) - set(serving))
    if not lost and not new:
        return Finding("labels", True, f"the same {len(labels)} classes")
    says = f"the classes {lost} are missing, {new} are new; BUNRIWIKI_GATE_LABELS is {thresholds.labels}"
    return Finding("labels", thresholds.labels == "any", says)


def judge_evaluation(report: EvaluationReport, truth: Truth, thresholds: Thresholds, *, first: bool) -> Iterator[Finding]:
    """The findings of the other gates. `truth` are the samples of the reference set.

    The `first` version of a registry is held to the floor, because nobody chose the bundled version that serves so far.
    """
    yield _agreement(report, thresholds)
    yield _floor(report, truth, thresholds) if first else _quality(report, truth, thresholds)
    yield _batches(report, thresholds)
    yield _floor_latency(report, thresholds) if first else _latency(report, thresholds)


def is_latency_decided(pairs: Pairs, thresholds: Thresholds, *, first: bool) -> bool:
    """Whether the latency gate needs no more pairs of answers."""
    if first:
        return enough(pairs, own_latency(pairs).compared_with(1000 * thresholds.floor_seconds))
    return enough(pairs, slowdown(pairs).compared_with(thresholds.latency))


def _agreement(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    differences = [difference for difference in report.golden if difference]
    share = 1 - len(differences) / len(report.golden) if report.golden else 0.0
    says = f"{len(report.golden) - len(differences)} of {len(report.golden)} golden samples answered as the original does"
    if differences:
        says += f"; {thresholds.agreement:.0%} are required; the first difference: {differences[0]}"
    return Finding("agreement", share >= thresholds.agreement, says)


def _quality(report: EvaluationReport, truth: Truth, thresholds: Thresholds) -> Finding:
    mine, theirs = quality(report.reference, truth), quality(report.serving, truth)
    says = (
        f"macro F1 {mine:.1f} on {len(truth)} reference inputs, the serving version has {theirs:.1f}; "
        f"at most {thresholds.quality:g} points less are allowed"
    )
    passed = mine >= theirs - thresholds.quality
    for kind, (number, mine, theirs) in _by_kind(report, truth).items():
        # The fewer photos, the more chance moves the difference: its standard deviation goes with the root of their number.
        allowed = thresholds.quality * math.sqrt(len(truth) / number)
        says += f"; {kind} ({number} photos) {mine:.1f}, the serving version {theirs:.1f}, at most {allowed:.1f} less"
        passed = passed and mine >= theirs - allowed
    return Finding("quality", passed, says)


def _by_kind(report: EvaluationReport, truth: Truth) -> dict[str, tuple[int, float, float]]:
    """For each kind of photos: their number, and the macro F1 of the candidate and of the serving version."""
    found = {}
    for kind, positions in by_kind(truth).items():
        samples = [sample for at in positions if isinstance(sample := truth[at], ReferencePhoto)]
        mine, theirs = (quality([answers[at] for at in positions], samples) for answers in (report.reference, report.serving))
        found[kind] = (len(positions), mine, theirs)
    return found


def _floor(report: EvaluationReport, truth: Truth, thresholds: Thresholds) -> Finding:
    scores = class_scores(report.reference, truth)
    mine, guesses = quality(report.reference, truth), guessing(len(scores))
    floor, class_floor = guesses + thresholds.floor * (100 - guesses), CLASS_FLOOR * guesses
    weakest = min(scores, key=scores.__getitem__)
    says = (
        f"macro F1 {mine:.1f} on {len(truth)} reference inputs, {scores[weakest]:.1f} for {weakest}, its weakest class; "
        f"the first version of a registry needs {floor:.1f}, and {class_floor:.1f} for every class "
        f"(guessing has {guesses:.1f}, the bundled version {quality(report.serving, truth):.1f})"
    )
    for kind, (number, candidate, bundled) in _by_kind(report, truth).items():
        says += f"; {kind} ({number} photos) {candidate:.1f}, the bundled version {bundled:.1f}"
    return Finding("quality", not thresholds.floor or (mine >= floor and scores[weakest] >= class_floor), says)


def _batches(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    together = [report.reference[position] for position in report.positions]
    differing = [
        difference
        for alone, batched in zip(report.alone, together, strict=True)
        if (difference := _difference(alone, batched, thresholds.batch))
    ]
    says = (
        f"{len(report.alone)} inputs answered alone and in a batch: {len(differing)} differ by more than {thresholds.batch:g}"
    )
    if differing:
        says += f"; the first: {differing[0]}"
    return Finding("batches", not differing, says)


def _difference(alone: Answer, batched: Answer, tolerance: float) -> str | None:
    if isinstance(alone, Classification) and isinstance(batched, Classification):
        moved = max(abs(score - batched.details.get(name, -1)) for name, score in alone.details.items())
        if alone.label != batched.label or moved > tolerance:
            return f"{alone.label} alone, {batched.label} in a batch, scores {moved:.4f} apart"
        return None
    if not isinstance(alone, Detections) or not isinstance(batched, Detections):
        return "the answers are of different types"
    # A box whose score is next to the confidence threshold may be on either side of it.
    sure, sure_batched = (
        [box for box in answer.detections if box.score > DEFAULT_CONFIDENCE + tolerance] for answer in (alone, batched)
    )
    for boxes, others in ((sure, batched.detections), (sure_batched, alone.detections)):
        for box in boxes:
            if not any(box.label == there.label and abs(box.score - there.score) <= tolerance for there in others):
                return f"{box.label} {box.score:.4f} is in only one of the answers"
    return None


def _latency(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    found = slowdown(report.milliseconds)
    mine, theirs = (statistics.median(column) for column in zip(*report.milliseconds, strict=True))
    says = (
        f"{found.median:.1f} times as long as the serving version ({mine:.1f} and {theirs:.1f} ms per input), "
        f"{_bounds(found)} in {len(report.milliseconds)} pairs; at most {thresholds.latency:g} times is allowed"
    )
    return _by_side("latency", found.compared_with(thresholds.latency), says)


def _floor_latency(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    found = own_latency(report.milliseconds)
    says = (
        f"{found.median:.1f} ms per input, {_bounds(found)} in {len(report.milliseconds)} answers; "
        f"at most {thresholds.floor_seconds:g} s is allowed for the first version of a registry"
    )
    return _by_side("latency", found.compared_with(1000 * thresholds.floor_seconds), says)


def _bounds(found: Interval) -> str:
    return f"between {found.low:.1f} and {found.high:.1f} with {CONFIDENCE:.1%} confidence"


def _by_side(gate: str, side: Side, says: str) -> Finding:
    return Finding(gate, side == "below", says, undecided=side == "undecided")
