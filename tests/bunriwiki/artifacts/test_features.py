from __future__ import annotations

import sys
import threading
from itertools import pairwise

import pytest

from bunriwiki.artifacts.answers import Classification, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.features import (
    BRIGHTNESS,
    EDGES,
    IMAGE_PIXELS,
    LABEL,
    MAX_LABELS,
    MAX_PENDING,
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


@pytest.mark.parametrize("batches", [1, MAX_PENDING - 1, MAX_PENDING, 3 * MAX_PENDING + 1])
def test_whenever_histograms_are_read_all_batches_are_counted(batches: int) -> None:
    counts = FeatureCounts()
    for _ in range(batches):
        counts.add(["abc"] * 2, [text(), text()], {UNKNOWN_TOKENS: [0, 1]})
    assert inputs(counts.histograms()) == 2 * batches
    counts.add(["abc"], [text()])
    assert inputs(counts.histograms()) == 2 * batches + 1


def test_detections_are_not_kept() -> None:
    counts = FeatureCounts()
    found = [photo("can")]
    before = sys.getrefcount(found[0])
    counts.add([Photo(b"")], found)
    after = sys.getrefcount(found[0])
    assert after == before


def test_threads_may_count_and_read_at_the_same_time() -> None:
    counts = FeatureCounts()

    def count() -> None:
        for number in range(2_000):
            counts.add(["abc"], [text()])
            if number % 7 == 0:
                counts.histograms()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inputs(counts.histograms()) == 8_000
