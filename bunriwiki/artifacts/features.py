"""The features whose distributions show drift, and their histograms: of inputs, and of the answers to them.

The bins are fixed, so histograms of different workers, and of different times, can be added and subtracted. A histogram has no
input and no part of one: it is a number of inputs per bin.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence

from bunriwiki.artifacts.answers import Classification, Detections

LABEL = "label"
SCORE = "score"
TEXT_LENGTH = "text_length"
UNKNOWN_TOKENS = "unknown_tokens"
IMAGE_PIXELS = "image_pixels"
BRIGHTNESS = "brightness"
FEATURES = (LABEL, SCORE, TEXT_LENGTH, UNKNOWN_TOKENS, IMAGE_PIXELS, BRIGHTNESS)

NOTHING = "(nothing)"  # the label of a photo without detections
OTHERS = "(others)"  # the label of all classes beyond MAX_LABELS
MAX_LABELS = 200
MAX_PENDING = 16  # batches of texts that are not counted yet

_TWENTIETHS = tuple(number / 20 for number in range(20))
EDGES: Mapping[str, tuple[float, ...]] = {
    SCORE: _TWENTIETHS,
    TEXT_LENGTH: (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096),
    UNKNOWN_TOKENS: (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75),
    IMAGE_PIXELS: (0, *(2**power for power in range(12, 26))),
    BRIGHTNESS: _TWENTIETHS,
}
"""The lower edges of each numeric feature's bins, ascending from 0; the last bin has no upper edge. Scores, unknown tokens and
brightness are shares, 0..1; the length of a text is in characters, the size of an image in pixels."""

BINS: Mapping[str, tuple[str, ...]] = {feature: tuple(f"{edge:g}" for edge in edges) for feature, edges in EDGES.items()}

Histogram = dict[str, int]  # inputs by bin: the name of a label, or the lower edge of a bin as `%g`
Histograms = dict[str, Histogram]  # by feature
_Batch = tuple[Sequence[int | None], Sequence[object], Mapping[str, Sequence[float]]]  # lengths of texts, answers, measured


class FeatureCounts:
    """Counts the features of inputs that were answered.

    Batches are counted `MAX_PENDING` at a time, or when the histograms are read: one after the other costs a fraction of what
    each costs between two forward passes. Any thread may call the methods.
    """

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._pending: deque[_Batch] = deque()
        self._counting = threading.Lock()

    def add(
        self, inputs: Sequence[object], results: Sequence[object], measured: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Count a batch: `results` has the answer to each of `inputs`, `measured` further values of features, one per input.

        An input without an answer is not counted. A photo counts once under each class that was found in it, and its score is
        that of its first detection.
        """
        lengths = [len(given) if isinstance(given, str) else None for given in inputs]
        self._pending.append((lengths, results, measured or {}))
        if len(self._pending) >= MAX_PENDING or None in lengths:  # the detections in photos may be many
            self._count_pending()

    def histograms(self) -> Histograms:
        """A copy."""
        self._count_pending()
        with self._counting:
            return {feature: dict(counts) for feature, counts in self._counts.items()}

    def _count_pending(self) -> None:
        with self._counting:
            while self._pending:
                self._count(*self._pending.popleft())

    def _count(self, lengths: Sequence[int | None], results: Sequence[object], measured: Mapping[str, Sequence[float]]) -> None:
        # Not strict: if a pyfunc gives too few rows, the gateway rejects the batch, and counting must not get ahead of it.
        for position, (length, result) in enumerate(zip(lengths, results, strict=False)):
            match result:
                case Classification():
                    self._label(result.label)
                    self._number(SCORE, result.score)
                case Detections():
                    for label in {detection.label for detection in result.detections} or (NOTHING,):
                        self._label(label)
                    if result.detections:
                        self._number(SCORE, result.detections[0].score)
                    self._number(IMAGE_PIXELS, result.image.width * result.image.height)
                case _:  # a failure
                    continue
            if length is not None:
                self._number(TEXT_LENGTH, length)
            for feature, values in measured.items():
                self._number(feature, values[position])

    def _label(self, label: str) -> None:
        labels = self._counts[LABEL]
        labels[label if label in labels or len(labels) < MAX_LABELS else OTHERS] += 1

    def _number(self, feature: str, value: float) -> None:
        self._counts[feature][BINS[feature][max(0, bisect_right(EDGES[feature], value) - 1)]] += 1


def add(first: Histograms, second: Histograms) -> Histograms:
    """The sum of two histograms of each feature."""
    return {
        feature: dict(Counter(first.get(feature, {})) + Counter(second.get(feature, {}))) for feature in {**first, **second}
    }


def subtract(last: Histograms, first: Histograms) -> Histograms:
    """What was counted between `first` and `last`, two states of the same counts; `last` if the counts began anew since."""
    if inputs(last) < inputs(first):
        return last
    return {feature: dict(Counter(counts) - Counter(first.get(feature, {}))) for feature, counts in last.items()}


def inputs(histograms: Histograms) -> int:
    """How many inputs were counted. Every text has a length, and every photo a size."""
    return max(sum(histograms.get(feature, {}).values()) for feature in (TEXT_LENGTH, IMAGE_PIXELS))
