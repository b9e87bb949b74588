"""The features of a version's answers to the reference set: its reference until it has answered enough live traffic."""

from __future__ import annotations

from collections.abc import Iterable

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.features import BRIGHTNESS, FeatureCounts, Histograms
from bunriwiki.artifacts.image import brightness, decode
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.inputs import Photo

SIDE = 320  # pixels: enough to tell how bright a photo is


def evaluated(inputs: Iterable[str | Photo], answers: Iterable[Classification | Detections]) -> Histograms:
    """The histograms of an evaluation. The share of unknown tokens is not among them: only the runner has the tokenizer.

    The answers are those of a version that nobody trusts yet, so the brightness is measured here.
    """
    counts = FeatureCounts()
    for given, answer in zip(inputs, answers, strict=True):
        counts.add([given], [answer], {BRIGHTNESS: [_brightness(given)]} if isinstance(given, Photo) else {})
    return counts.histograms()


def _brightness(photo: Photo) -> float:
    try:
        return brightness(*decode(photo.data, SIDE))
    except BadImageError:  # no version could have answered it
        return 0.0
