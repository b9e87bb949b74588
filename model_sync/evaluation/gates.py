"""The gates: what a version has to show before it may serve. Pure functions of its report (`evaluation_report.py`)."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.golden import overlap
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE
from bunriwiki.artifacts.reference import ReferencePhoto, ReferenceText
from bunriwiki.artifacts.samples import Sample
from model_sync.evaluation.report import Answer, EvaluationReport

RIGHT_OVERLAP = 0.5  # of a box with the labelled one, as intersection over union

Truth = Sequence[ReferenceText] | Sequence[ReferencePhoto]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is allowed; docs/settings.md has the reasons.

    `agreement`: the share of golden samples that has to be answered as the original does. `quality`: by how many points (100
    is perfect) the version may be worse than what serves. `batch`: how far a score may move in a batch. `latency`: how many
    times as long as what serves it may take. `labels`: `same`, or `any` where the set of classes may change.
    """

    agreement: float
    quality: float
    batch: float
    latency: float
    labels: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found, as a sentence."""

    gate: str
    passed: bool
    says: str


def judge_labels(labels: Sequence[str], serving: Sequence[str], thresholds: Thresholds) -> Finding:
    """The classes are those of the version that serves, in any order, unless others are allowed."""
    lost, new = sorted(set(serving) - set(labels)), sorted(set(labels) - set(serving))
    if not lost and not new:
        return Finding("labels", True, f"the same {len(labels)} classes")
    says = f"without the classes {lost}, with the new ones {new}; BUNRIWIKI_GATE_LABELS is {thresholds.labels}"
    return Finding("labels", thresholds.labels == "any", says)


def judge_evaluation(report: EvaluationReport, truth: Truth, thresholds: Thresholds) -> Iterator[Finding]:
    """The other gates. `truth` is the reference set."""
    yield _agreement(report, thresholds)
    yield _quality(report, truth, thresholds)
    yield _batches(report, thresholds)
    yield _latency(report, thresholds)


def quality(answers: Sequence[Answer], truth: Truth) -> float:
    """Macro F1 in points, 0..100, over the classes of the reference set.

    A text is right with its class. An object in a photo is found by the surest answer of its class, at the default confidence,
    that overlaps it by half; every further answer is wrong.
    """
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for answer, sample in zip(answers, truth, strict=True):
        found, false, lost = _count(answer, sample)
        right.update(found)
        wrong.update(false)
        missed.update(lost)
    classes = {*right, *missed}
    scores = [2 * right[name] / (2 * right[name] + wrong[name] + missed[name]) for name in classes]
    return 100 * sum(scores) / len(scores)


def _count(answer: Answer, sample: Sample) -> tuple[list[str], list[str], list[str]]:
    """The classes of what was said rightly, of what was said wrongly, and of what is there but was not said."""
    if isinstance(sample, ReferenceText):
        said = answer.label if isinstance(answer, Classification) else ""
        return ([said], [], []) if said == sample.label else ([], [said], [sample.label])
    right: list[str] = []
    wrong: list[str] = []
    assert isinstance(sample, ReferencePhoto)  # noqa: S101 (the other kind)
    left = list(sample.objects)
    for box in answer.detections if isinstance(answer, Detections) else ():
        if box.score < DEFAULT_CONFIDENCE:
            continue
        hit = next((one for one in left if one.label == box.label and overlap(one.box, box.box) >= RIGHT_OVERLAP), None)
        if hit:
            left.remove(hit)
        (right if hit else wrong).append(box.label)
    return right, wrong, [one.label for one in left]


def _agreement(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    differences = [one for one in report.golden if one]
    share = 1 - len(differences) / len(report.golden) if report.golden else 0.0
    says = f"{len(report.golden) - len(differences)} of {len(report.golden)} golden samples answered as the original does"
    if differences:
        says += f", {thresholds.agreement:.0%} have to be; for one: {differences[0]}"
    return Finding("agreement", share >= thresholds.agreement, says)


def _quality(report: EvaluationReport, truth: Truth, thresholds: Thresholds) -> Finding:
    mine, theirs = quality(report.reference, truth), quality(report.serving, truth)
    says = (
        f"macro F1 {mine:.1f} on {len(truth)} reference inputs, what serves has {theirs:.1f}; "
        f"{thresholds.quality:g} points less are allowed"
    )
    return Finding("quality", mine >= theirs - thresholds.quality, says)


def _batches(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    together = [report.reference[position] for position in report.positions]
    differing = [
        difference
        for one, other in zip(report.alone, together, strict=True)
        if (difference := _difference(one, other, thresholds.batch))
    ]
    says = (
        f"{len(report.alone)} inputs answered alone and in a batch: {len(differing)} differ by more than {thresholds.batch:g}"
    )
    if differing:
        says += f"; for one: {differing[0]}"
    return Finding("batches", not differing, says)


def _difference(one: Answer, other: Answer, tolerance: float) -> str | None:
    if isinstance(one, Classification) and isinstance(other, Classification):
        moved = max(abs(score - other.details.get(name, -1)) for name, score in one.details.items())
        if one.label != other.label or moved > tolerance:
            return f"{one.label} alone, {other.label} in a batch, scores {moved:.4f} apart"
        return None
    if not isinstance(one, Detections) or not isinstance(other, Detections):
        return "one of them is no answer"
    # A box that scores next to the threshold may be on either side of it.
    mine, theirs = ([box for box in found.detections if box.score > DEFAULT_CONFIDENCE + tolerance] for found in (one, other))
    for boxes, others in ((mine, other.detections), (theirs, one.detections)):
        for box in boxes:
            if not any(box.label == there.label and abs(box.score - there.score) <= tolerance for there in others):
                return f"{box.label} {box.score:.4f} is found on one side only"
    return None


def _latency(report: EvaluationReport, thresholds: Thresholds) -> Finding:
    # Pair by pair: what else the machine does meets a pair, or one of it, at random, but hardly the same one most of the time.
    times = statistics.median(mine / theirs for mine, theirs in report.milliseconds)
    mine, theirs = (statistics.median(column) for column in zip(*report.milliseconds, strict=True))
    says = (
        f"{times:.1f} times as long as what serves ({mine:.1f} and {theirs:.1f} ms for one input); "
        f"{thresholds.latency:g} times is allowed"
    )
    return Finding("latency", times <= thresholds.latency, says)
