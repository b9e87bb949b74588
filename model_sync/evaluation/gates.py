"""The gates that a candidate must pass before it may serve: pure functions of its evaluation report (`report.py`)."""

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

MIN_OVERLAP = 0.5  # intersection over union of a found box with the labelled box

Truth = Sequence[ReferenceText] | Sequence[ReferencePhoto]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of the gates; docs/settings.md explains them.

    agreement: the share of golden samples, 0..1, that must be answered as the original model does.
    quality: how many points of macro F1 (0..100) the candidate may be worse than the serving version.
    batch: how far a score (0..1) may differ between an input alone and the same input in a batch.
    latency: how many times as long as the serving version the candidate may take.
    labels: `same`, or `any` if the set of classes may change.
    """

    agreement: float
    quality: float
    batch: float
    latency: float
    labels: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a gate; `says` is a sentence about it."""

    gate: str
    passed: bool
    says: str


def judge_labels(labels: Sequence[str], serving: Sequence[str], thresholds: Thresholds) -> Finding:
    """Whether the classes are those of the serving version, in any order, or others are allowed."""
    lost, new = sorted(set(serving) - set(labels)), sorted(set(labels) - set(serving))
    if not lost and not new:
        return Finding("labels", True, f"the same {len(labels)} classes")
    says = f"the classes {lost} are missing, {new} are new; BUNRIWIKI_GATE_LABELS is {thresholds.labels}"
    return Finding("labels", thresholds.labels == "any", says)


def judge_evaluation(report: EvaluationReport, truth: Truth, thresholds: Thresholds) -> Iterator[Finding]:
    """The findings of the other gates. `truth` are the samples of the reference set."""
    yield _agreement(report, thresholds)
    yield _quality(report, truth, thresholds)
    yield _batches(report, thresholds)
    yield _latency(report, thresholds)


def quality(answers: Sequence[Answer], truth: Truth) -> float:
    """Macro F1 in points, 0..100, over the classes of the reference set.

    A text is right if it has the labelled class. An object in a photo is found by the box with the highest score, of at least
    the default confidence, that has its class and an overlap of at least MIN_OVERLAP; every other box is wrong.
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
    """The classes of the true positives, of the false positives, and of the false negatives."""
    if isinstance(sample, ReferenceText):
        label = answer.label if isinstance(answer, Classification) else ""
        return ([label], [], []) if label == sample.label else ([], [label], [sample.label])
    right: list[str] = []
    wrong: list[str] = []
    assert isinstance(sample, ReferencePhoto)  # noqa: S101 (the other kind)
    left = list(sample.objects)
    for box in answer.detections if isinstance(answer, Detections) else ():
        if box.score < DEFAULT_CONFIDENCE:
            continue
        hit = next((there for there in left if there.label == box.label and overlap(there.box, box.box) >= MIN_OVERLAP), None)
        if hit:
            left.remove(hit)
        (right if hit else wrong).append(box.label)
    return right, wrong, [there.label for there in left]


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
    return Finding("quality", mine >= theirs - thresholds.quality, says)


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
    # The median over pairs: other load on the machine slows either version of a pair at random, but not one of them mostly.
    ratio = statistics.median(mine / theirs for mine, theirs in report.milliseconds)
    mine, theirs = (statistics.median(column) for column in zip(*report.milliseconds, strict=True))
    says = (
        f"{ratio:.1f} times as long as the serving version ({mine:.1f} and {theirs:.1f} ms per input); "
        f"at most {thresholds.latency:g} times is allowed"
    )
    return Finding("latency", ratio <= thresholds.latency, says)
