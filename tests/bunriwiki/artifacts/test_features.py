from __future__ import annotations

from itertools import pairwise

import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.features import (
    BRIGHTNESS,
    EDGES,
    IMAGE_PIXELS,
    LABEL,
    MAX_LABELS,
    NOTHING,
    OTHERS,
    SCORE,
    TEXT_LENGTH,
    UNKNOWN_TOKENS,
    FeatureCounts,
    add,
    inputs,
    subtract,
)
from bunriwiki.artifacts.inputs import Photo


def text(label: str = "none", score: float = 0.5) -> Classification:
    return Classification(label, score, {label: score})


def photo(*labels: str) -> Detections:
    found = tuple(Detection(label, label, 0.9 - 0.3 * number, (0, 0, 1, 1)) for number, label in enumerate(labels))
    return Detections(found, ImageSize(width=640, height=480))


@pytest.mark.parametrize("feature", EDGES)
def test_edges_ascend_from_zero(feature: str) -> None:
    assert EDGES[feature][0] == 0
    assert all(low < high for low, high in pairwise(EDGES[feature]))


def test_texts() -> None:
    counts = FeatureCounts()
    counts.add(["abc", "abcd", "x" * 9999], [text(), text("hate", 1.0), text("none", 0.0)], {UNKNOWN_TOKENS: [0, 0.5, 1]})
    assert counts.histograms() == {
        LABEL: {"none": 2, "hate": 1},
        SCORE: {"0.5": 1, "0.95": 1, "0": 1},
        TEXT_LENGTH: {"0": 1, "4": 1, "4096": 1},
        UNKNOWN_TOKENS: {"0": 1, "0.5": 1, "0.75": 1},
    }


def test_a_photo_counts_once_under_each_of_its_classes() -> None:
    counts = FeatureCounts()
    counts.add([Photo(b""), Photo(b"")], [photo("can", "can", "glass"), photo()], {BRIGHTNESS: [0.32, 1.0]})
    found = counts.histograms()
    assert found[LABEL] == {"can": 1, "glass": 1, NOTHING: 1}
    assert found[SCORE] == {"0.9": 1}
    assert found[IMAGE_PIXELS] == {"262144": 2}
    assert found[BRIGHTNESS] == {"0.3": 1, "0.95": 1}
    assert inputs(found) == 2


def test_an_input_without_an_answer_does_not_count() -> None:
    counts = FeatureCounts()
    counts.add(["a", "b"], [Failure(kind="internal", message="no"), text()], {UNKNOWN_TOKENS: [1, 0]})
    assert counts.histograms()[UNKNOWN_TOKENS] == {"0": 1}
    assert inputs(counts.histograms()) == 1


def test_labels_are_bounded() -> None:
    counts = FeatureCounts()
    for number in range(MAX_LABELS + 5):
        counts.add(["a"], [text(f"class {number}")])
    labels = counts.histograms()[LABEL]
    assert len(labels) == MAX_LABELS + 1
    assert labels[OTHERS] == 5


def test_sums_and_differences() -> None:
    first, last = {TEXT_LENGTH: {"0": 2}}, {TEXT_LENGTH: {"0": 3, "8": 1}, LABEL: {"none": 4}}
    assert subtract(last, first) == {TEXT_LENGTH: {"0": 1, "8": 1}, LABEL: {"none": 4}}
    assert add(first, subtract(last, first)) == last
    assert subtract(first, last) == first  # the worker began to count anew
    assert inputs({}) == 0
