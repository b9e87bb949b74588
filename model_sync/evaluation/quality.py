"""The quality of answers to a reference set, and how good answers are that do not depend on the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.golden import overlap
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE
from bunriwiki.artifacts.reference import ReferencePhoto, ReferenceText
from bunriwiki.artifacts.samples import Sample
from model_sync.evaluation.report import Answer

MIN_OVERLAP = 0.5  # intersection over union of a found box with the labelled box

Truth = Sequence[ReferenceText] | Sequence[ReferencePhoto]


def quality(answers: Sequence[Answer], truth: Truth) -> float:
    """Macro F1 in points, 0..100: the mean of the classes' F1."""
    scores = class_scores(answers, truth)
    return sum(scores.values()) / len(scores)


def class_scores(answers: Sequence[Answer], truth: Truth) -> dict[str, float]:
    """F1 in points, 0..100, of each class of the reference set.

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
    return {name: 200 * right[name] / (2 * right[name] + wrong[name] + missed[name]) for name in sorted({*right, *missed})}


def by_kind(truth: Truth) -> dict[str, list[int]]:
    """The positions of the samples of each kind, if there are two kinds or more that have objects."""
    photos = {at: sample for at, sample in enumerate(truth) if isinstance(sample, ReferencePhoto)}
    kinds = sorted({sample.kind for sample in photos.values() if sample.kind and sample.objects})
    return {kind: [at for at, sample in photos.items() if sample.kind == kind] for kind in kinds} if len(kinds) > 1 else {}


def guessing(classes: int) -> float:
    """Macro F1 in points that answers which do not depend on the input have at most, on a set with so many classes.

    If a class has the share p of a large set, and q of the answers, its F1 is 2pq/(p+q), the harmonic mean of p and q, which is
    at most (p+q)/2. The mean of that over all classes is 1/classes, since the p and the q add up to 1. Guessing by the shares
    of the classes reaches it; to answer always the most frequent class does not.
    """
    return 100 / classes


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
