from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize
from bunriwiki.artifacts.reference import ReferenceObject, ReferencePhoto, ReferenceText
from model_sync.evaluation.gates import Finding, Thresholds, Truth, judge_evaluation, judge_labels, quality
from model_sync.evaluation.report import Answer, EvaluationReport

THRESHOLDS = Thresholds(agreement=1, quality=2, batch=1e-3, latency=2, labels="same")
BOX = (0.0, 0.0, 10.0, 10.0)


def said(label: str, score: float = 0.9) -> Classification:
    return Classification(label=label, score=score, details={label: score, "other": round(1 - score, 6)})


def seen(*boxes: tuple[str, float, tuple[float, float, float, float]]) -> Detections:
    found = tuple(Detection(label=label, label_ko=label, score=score, box=box) for label, score, box in boxes)
    return Detections(detections=found, image=ImageSize(width=20, height=20))


def texts(*labels: str) -> list[ReferenceText]:
    return [ReferenceText(text="x", label=label) for label in labels]


def photo(*labels: str) -> ReferencePhoto:
    return ReferencePhoto(image="x.jpg", objects=tuple(ReferenceObject(label=label, box=BOX) for label in labels))


def report(reference: Sequence[Answer], **fields: Any) -> EvaluationReport:
    told = {"golden": (None,), "serving": (), "milliseconds": ((1.0, 1.0),), "positions": range(len(reference)), **fields}
    return EvaluationReport(reference=tuple(reference), **{"alone": tuple(reference), **told})


def findings(
    one: EvaluationReport, serving: Sequence[Answer], truth: Truth, thresholds: Thresholds = THRESHOLDS
) -> dict[str, Finding]:
    return {found.gate: found for found in judge_evaluation(replace(one, serving=tuple(serving)), truth, thresholds)}


def test_a_version_like_the_serving_one_passes_every_gate() -> None:
    answers = [said("a"), said("b")]
    found = findings(report(answers), answers, texts("a", "b"))
    assert set(found) == {"agreement", "quality", "batches", "latency"}
    assert all(one.passed for one in found.values())


def test_one_golden_sample_that_differs_is_enough_unless_a_share_is_allowed() -> None:
    one = report([said("a")], golden=(None, "a 0.5 instead of 0.9"))
    found = findings(one, [said("a")], texts("a"))["agreement"]
    assert not found.passed
    assert found.says.endswith("for one: a 0.5 instead of 0.9")
    half = Thresholds(agreement=0.5, quality=2, batch=1e-3, latency=2, labels="same")
    assert findings(one, [said("a")], texts("a"), half)["agreement"].passed


def test_no_golden_samples_are_no_agreement() -> None:
    assert not findings(report([said("a")], golden=()), [said("a")], texts("a"))["agreement"].passed


def test_the_right_model_with_permuted_labels_fails_on_quality() -> None:
    truth = texts(*"abab")
    found = findings(report([said(label) for label in "baba"]), [said(label) for label in "abab"], truth)["quality"]
    assert not found.passed
    assert found.says == "macro F1 0.0 on 4 reference inputs, what serves has 100.0; 2 points less are allowed"


def test_a_little_worse_is_allowed() -> None:
    truth = texts(*["a"] * 100, *["b"] * 100)
    serving = [said(one.label) for one in truth]
    assert findings(report([said("b"), *serving[1:]]), serving, truth)["quality"].passed
    assert not findings(report([said("b")] * 5 + serving[5:]), serving, truth)["quality"].passed


def test_the_quality_of_texts_is_the_mean_f1_of_the_classes() -> None:
    # a: one of two found, nothing wrong: 2/3. b: found, and one wrong: 2/3.
    assert quality([said("a"), said("b"), said("b")], texts("a", "a", "b")) == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (seen(("a", 0.9, BOX)), 100),
        (seen(("b", 0.9, BOX)), 0),
        (seen(("a", 0.9, (8.0, 8.0, 20.0, 20.0))), 0),
        (seen(("a", 0.2, BOX)), 0),
        (seen(("a", 0.9, BOX), ("a", 0.8, BOX)), 100 * 2 / 3),  # the second is wrong
        (seen(), 0),
    ],
    ids=["right", "another class", "elsewhere", "unsure", "twice", "nothing"],
)
def test_the_quality_of_photos(answer: Detections, expected: float) -> None:
    assert quality([answer], [photo("a")]) == pytest.approx(expected)


def test_an_empty_photo_counts_what_is_seen_in_it() -> None:
    right = seen(("a", 0.9, BOX))
    assert quality([right, right], [photo("a"), photo()]) == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("alone", [said("a", 0.905), said("b", 0.9)], ids=["the score", "the label"])
def test_an_answer_that_its_batch_changes_fails(alone: Classification) -> None:
    found = findings(report([said("a", 0.9)], alone=(alone,)), [said("a")], texts("a"))["batches"]
    assert not found.passed


def test_boxes_that_a_batch_changes_fail_but_not_at_the_threshold() -> None:
    edge = report([seen(("a", 0.9, BOX))], alone=(seen(("a", 0.9, BOX), ("b", 0.2505, BOX)),))
    moved = report([seen(("a", 0.9, BOX))], alone=(seen(("a", 0.902, BOX)),))
    one, other = (findings(it, it.reference, [photo("a")]) for it in (edge, moved))
    assert one["batches"].passed
    assert not other["batches"].passed


def test_singles_are_compared_with_their_own_answer_of_the_batch() -> None:
    answers = [said("a"), said("b"), said("a"), said("b")]
    assert findings(report(answers, alone=(said("b"), said("b")), positions=range(1, 4, 2)), answers, texts(*"abab"))[
        "batches"
    ].passed


def test_a_slow_version_fails() -> None:
    found = findings(report([said("a")], milliseconds=((10.0, 1.0), (20.0, 1.0), (1.0, 9.0))), [said("a")], texts("a"))[
        "latency"
    ]
    assert not found.passed
    assert found.says == "10.0 times as long as what serves (10.0 and 1.0 ms for one input); 2 times is allowed"


def test_a_machine_that_is_busy_now_and_then_slows_nobody_down() -> None:
    pairs = ((1.0, 1.0), (9.0, 1.0), (1.0, 9.0), (8.0, 1.0), (1.0, 1.0))
    assert findings(report([said("a")], milliseconds=pairs), [said("a")], texts("a"))["latency"].passed


def test_the_order_of_the_classes_is_free_but_not_which_they_are() -> None:
    assert judge_labels(["b", "a"], ["a", "b"], THRESHOLDS).passed
    found = judge_labels(["a", "c"], ["a", "b"], THRESHOLDS)
    assert not found.passed
    assert found.says.startswith("without the classes ['b'], with the new ones ['c']")
    assert judge_labels(["a", "c"], ["a", "b"], Thresholds(1, 2, 1e-3, 2, "any")).passed
