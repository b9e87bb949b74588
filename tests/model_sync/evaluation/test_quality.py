from __future__ import annotations

from collections import Counter

import hypothesis
import hypothesis.strategies as st
import pytest

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE
from bunriwiki.artifacts.reference import ReferenceObject, ReferencePhoto, ReferenceText
from model_sync.evaluation.quality import MIN_OVERLAP, Truth, by_kind, class_scores, guessing, quality
from model_sync.evaluation.report import Answer
from tests.model_sync.evaluation.test_gates import BOX, classified, detected, photo, texts


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
        (detected(("a", DEFAULT_CONFIDENCE - 0.05, BOX)), 0),
        (detected(("a", DEFAULT_CONFIDENCE - 0.05, BOX), ("a", 0.9, BOX)), 100),
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


def test_each_class_has_its_f1() -> None:
    answers = [classified("a"), classified("b"), classified("b"), classified("b")]
    assert class_scores(answers, texts("a", "a", "b", "c")) == {
        "a": pytest.approx(200 / 3), "b": pytest.approx(50), "c": 0,
    }  # fmt: skip


def spread(counts: dict[str, int], shares: dict[str, int]) -> list[Classification]:
    """Answers with these shares to the inputs of each class alike, whatever the input is."""
    return [classified(label) for _ in range(sum(counts.values())) for label, share in shares.items() for _ in range(share)]


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=2, max_size=6).filter(
        lambda pairs: any(share for _, share in pairs)
    )
)
def test_answers_that_do_not_depend_on_the_input_are_not_better_than_guessing(pairs: list[tuple[int, int]]) -> None:
    counts = {str(number): count for number, (count, _) in enumerate(pairs)}
    shares = {str(number): share for number, (_, share) in enumerate(pairs)}
    times = sum(shares.values())
    truth = texts(*(label for label in Counter(counts).elements() for _ in range(times)))
    assert quality(spread(counts, shares), truth) <= guessing(len(pairs)) + 1e-9


def test_guessing_by_the_shares_of_the_classes_reaches_the_bound() -> None:
    counts = {"a": 3, "b": 1}
    truth = texts(*"aaab" * 4)
    answers = [classified(label) for label in "aaaa" * 3 + "bbbb"]  # an answer's class does not depend on that of the input
    assert quality(answers, truth) == pytest.approx(guessing(len(counts)))


def test_kinds_without_objects_are_not_judged_apart() -> None:
    can = ReferenceObject(label="can", box=(0, 0, 10, 10))
    truth = [
        ReferencePhoto(image="1", kind="context", objects=(can,)),
        ReferencePhoto(image="2", kind="close-up", objects=(can,)),
        ReferencePhoto(image="3", objects=(can,)),
        ReferencePhoto(image="4", kind="context", objects=()),
    ]
    assert by_kind(truth) == {"close-up": [1], "context": [0, 3]}
    assert by_kind([*truth[2:], ReferencePhoto(image="5", kind="empty", objects=())]) == {}
    assert by_kind([ReferenceText(text="x", label="a")]) == {}
