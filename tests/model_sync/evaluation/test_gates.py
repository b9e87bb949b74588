from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, ImageSize
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE
from bunriwiki.artifacts.reference import ReferenceObject, ReferencePhoto, ReferenceText
from model_sync.evaluation.gates import MIN_OVERLAP, Finding, Thresholds, Truth, judge_evaluation, judge_labels, quality
from model_sync.evaluation.report import Answer, EvaluationReport

THRESHOLDS = Thresholds(agreement=1, quality=2, batch=1e-3, latency=2, labels="same")
BOX = (0.0, 0.0, 10.0, 10.0)


def classified(label: str, score: float = 0.9) -> Classification:
    return Classification(label=label, score=score, details={label: score, "other": round(1 - score, 6)})


def detected(*boxes: tuple[str, float, tuple[float, float, float, float]]) -> Detections:
    found = tuple(Detection(label=label, label_ko=label, score=score, box=box) for label, score, box in boxes)
    return Detections(detections=found, image=ImageSize(width=20, height=20))


def texts(*labels: str) -> list[ReferenceText]:
    return [ReferenceText(text="x", label=label) for label in labels]


def photo(*labels: str) -> ReferencePhoto:
    return ReferencePhoto(image="x.jpg", objects=tuple(ReferenceObject(label=label, box=BOX) for label in labels))


def report(reference: Sequence[Answer], **fields: Any) -> EvaluationReport:
    others = {"golden": (None,), "serving": (), "milliseconds": ((1.0, 1.0),), "positions": range(len(reference)), **fields}
    return EvaluationReport(reference=tuple(reference), **{"alone": tuple(reference), **others})


def findings(
    evaluated: EvaluationReport, serving: Sequence[Answer], truth: Truth, thresholds: Thresholds = THRESHOLDS
) -> dict[str, Finding]:
    return {found.gate: found for found in judge_evaluation(replace(evaluated, serving=tuple(serving)), truth, thresholds)}


def test_a_version_like_the_serving_one_passes_every_gate() -> None:
    answers = [classified("a"), classified("b")]
    found = findings(report(answers), answers, texts("a", "b"))
    assert set(found) == {"agreement", "quality", "batches", "latency"}
    assert all(finding.passed for finding in found.values())


@pytest.mark.parametrize(
    ("answer", "truth"),
    [(classified("a"), texts("a")), (detected(("a", 0.9, BOX)), [photo("a")])],
    ids=["a text", "a photo"],
)
def test_a_version_at_every_threshold_passes(answer: Answer, truth: Truth) -> None:
    strict = Thresholds(agreement=1, quality=0, batch=0, latency=1, labels="same")
    assert all(finding.passed for finding in findings(report([answer]), [answer], truth, strict).values())


def test_golden_samples_that_differ_fail_unless_their_share_is_allowed() -> None:
    differing = report([classified("a")], golden=(None, "a 0.5 instead of 0.9"))
    found = findings(differing, [classified("a")], texts("a"))["agreement"]
    assert not found.passed
    assert found.says == (
        "1 of 2 golden samples answered as the original does; 100% are required; the first difference: a 0.5 instead of 0.9"
    )
    half = Thresholds(agreement=0.5, quality=2, batch=1e-3, latency=2, labels="same")
    assert findings(differing, [classified("a")], texts("a"), half)["agreement"].passed


def test_a_version_without_golden_samples_fails() -> None:
    assert not findings(report([classified("a")], golden=()), [classified("a")], texts("a"))["agreement"].passed


def test_the_right_model_with_permuted_labels_fails_on_quality() -> None:
    truth = texts(*"abab")
    found = findings(report([classified(label) for label in "baba"]), [classified(label) for label in "abab"], truth)["quality"]
    assert not found.passed
    assert found.says == "macro F1 0.0 on 4 reference inputs, the serving version has 100.0; at most 2 points less are allowed"


def test_a_little_worse_is_allowed() -> None:
    truth = texts(*["a"] * 100, *["b"] * 100)
    serving = [classified(sample.label) for sample in truth]
    assert findings(report([classified("b"), *serving[1:]]), serving, truth)["quality"].passed
    assert not findings(report([classified("b")] * 5 + serving[5:]), serving, truth)["quality"].passed


def test_the_quality_of_texts_is_the_mean_f1_of_the_classes() -> None:
    # a: one of two found, no false positive: 2/3. b: found, and one false positive: 2/3.
    assert quality([classified("a"), classified("b"), classified("b")], texts("a", "a", "b")) == pytest.approx(100 * 2 / 3)


def test_every_answer_needs_its_sample() -> None:
    with pytest.raises(ValueError, match="longer"):
        quality([classified("a")], texts("a", "b"))


@pytest.mark.parametrize(
    ("answer", "truth"), [(detected(("a", 0.9, BOX)), texts("a")), (classified("a"), [photo("a")])], ids=["a text", "a photo"]
)
def test_an_answer_of_another_type_is_wrong(answer: Answer, truth: Truth) -> None:
    assert quality([answer], truth) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (detected(("a", 0.9, BOX)), 100),
        (detected(("a", DEFAULT_CONFIDENCE, BOX)), 100),
        (detected(("a", 0.9, (0.0, 0.0, 10.0, 10 * MIN_OVERLAP))), 100),
        (detected(("b", 0.9, BOX)), 0),
        (detected(("a", 0.9, (8.0, 8.0, 20.0, 20.0))), 0),
        (detected(("a", 0.2, BOX)), 0),
        (detected(("a", 0.2, BOX), ("a", 0.9, BOX)), 100),
        (detected(("a", 0.9, BOX), ("a", 0.8, BOX)), 100 * 2 / 3),  # the second is a false positive
        (detected(), 0),
    ],
    ids=["right", "just sure", "just there", "another class", "elsewhere", "unsure", "sure after unsure", "twice", "nothing"],
)
def test_the_quality_of_photos(answer: Detections, expected: float) -> None:
    assert quality([answer], [photo("a")]) == pytest.approx(expected)


def test_the_quality_of_photos_is_the_mean_f1_of_the_classes() -> None:
    # a: one of two found, no false positive: 2/3. b: found: 1.
    answers = [detected(("a", 0.9, BOX), ("b", 0.9, BOX)), detected()]
    assert quality(answers, [photo("a", "b"), photo("a")]) == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_a_box_in_an_empty_photo_is_a_false_positive() -> None:
    right = detected(("a", 0.9, BOX))
    assert quality([right, right], [photo("a"), photo()]) == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("alone", "batched", "difference"),
    [
        (classified("a", 0.905), classified("a"), "a alone, a in a batch, scores 0.0050 apart"),
        (classified("b"), classified("a"), "b alone, a in a batch"),
        (
            classified("a", 1.0),
            Classification(label="a", score=1.0, details={"other": 0.0}),
            "a alone, a in a batch, scores 2.0000 apart",
        ),
        (classified("a"), detected(), "the answers are of different types"),
        (detected(), classified("a"), "the answers are of different types"),
    ],
    ids=["the score", "the label", "a class without a score", "the type in a batch", "the type alone"],
)
def test_an_answer_that_differs_in_a_batch_fails(alone: Answer, batched: Answer, difference: str) -> None:
    found = findings(report([batched], alone=(alone,)), [classified("a")], texts("a"))["batches"]
    assert not found.passed
    start = "1 inputs answered alone and in a batch: 1 differ by more than 0.001; the first: "
    assert found.says.startswith(start + difference)


def test_every_single_answer_needs_an_answer_in_a_batch() -> None:
    answers = [classified("a"), classified("b")]
    with pytest.raises(ValueError, match="longer"):
        findings(report(answers, alone=answers[:1]), answers, texts("a", "b"))


def test_boxes_that_differ_in_a_batch_fail_except_next_to_the_threshold() -> None:
    edge = report([detected(("a", 0.9, BOX))], alone=(detected(("a", 0.9, BOX), ("b", 0.2505, BOX)),))
    moved = report([detected(("a", 0.9, BOX))], alone=(detected(("a", 0.902, BOX)),))
    for evaluated, passed in ((edge, True), (moved, False)):
        assert findings(evaluated, evaluated.reference, [photo("a")])["batches"].passed == passed


def test_a_single_answer_is_compared_with_that_to_the_same_input_in_a_batch() -> None:
    answers = [classified("a"), classified("b"), classified("a"), classified("b")]
    assert findings(
        report(answers, alone=(classified("b"), classified("b")), positions=range(1, 4, 2)), answers, texts(*"abab")
    )["batches"].passed


def test_a_slow_version_fails() -> None:
    found = findings(
        report([classified("a")], milliseconds=((10.0, 1.0), (20.0, 1.0), (1.0, 9.0))), [classified("a")], texts("a")
    )["latency"]
    assert not found.passed
    assert found.says == "10.0 times as long as the serving version (10.0 and 1.0 ms per input); at most 2 times is allowed"


def test_other_load_on_the_machine_does_not_fail_a_version() -> None:
    pairs = ((1.0, 1.0), (9.0, 1.0), (1.0, 9.0), (8.0, 1.0), (1.0, 1.0))
    assert findings(report([classified("a")], milliseconds=pairs), [classified("a")], texts("a"))["latency"].passed


def test_classes_must_be_the_same_in_any_order() -> None:
    assert judge_labels(["b", "a"], ["a", "b"], THRESHOLDS) == Finding("labels", True, "the same 2 classes")
    assert judge_labels(["a", "c"], ["a", "b"], THRESHOLDS) == Finding(
        "labels", False, "the classes ['b'] are missing, ['c'] are new; BUNRIWIKI_GATE_LABELS is same"
    )
    assert not judge_labels(["a"], ["a", "b"], THRESHOLDS).passed
    assert not judge_labels(["a", "b"], ["a"], THRESHOLDS).passed
    assert judge_labels(["a", "c"], ["a", "b"], Thresholds(1, 2, 1e-3, 2, "any")).passed
