"""How far a distribution is from its reference, and how far it may be by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from bunriwiki.artifacts.features import Histogram, Histograms

MIN_INPUTS = 200  # in the window and in the reference, below which nothing is said
MIN_EXPECTED = 5  # inputs that a bin must be expected to hold in the smaller sample; the other bins are merged into one
FALSE_ALARMS = 1e-4  # the share of comparisons without drift whose PSI may exceed the threshold
MIN_PSI = 0.1  # a smaller shift is of no interest, however certain it is: the usual limit of "no significant change"

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """The distance of a feature's distribution from its reference, and the PSI above which it has drifted."""

    psi: float
    js_distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        return self.psi > self.threshold


def compare(reference: Histograms, window: Histograms) -> dict[str, Drift]:
    """The drift of each feature that both have; a feature with fewer than `MIN_INPUTS` inputs in either is left out."""
    found = {}
    for feature, counts in window.items():
        expected, seen = aligned(reference.get(feature, {}), counts)
        if min(expected.sum(initial=0), seen.sum(initial=0)) >= MIN_INPUTS:
            found[feature] = _drift(expected, seen)
    return found


def aligned(first: Histogram, second: Histogram) -> tuple[Counts, Counts]:
    """Two histograms as arrays [bins] over the bins that either of them has, in one order."""
    bins = sorted({*first, *second})
    return _array(first, bins), _array(second, bins)


def psi(expected: Counts, seen: Counts) -> float:
    """The population stability index of two histograms over the same bins, [bins].

    The sum of (q - p) ln(q / p) over the shares p and q of each bin: the symmetrized Kullback-Leibler divergence (Jeffreys
    1946; Siddiqi, Credit Risk Scorecards, 2006). An empty bin counts as half an input, so that the index stays finite.
    """
    p, q = np.maximum(expected, 0.5) / expected.sum(), np.maximum(seen, 0.5) / seen.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def js_distance(expected: Counts, seen: Counts) -> float:
    """The Jensen-Shannon distance of two histograms over the same bins, [bins]: 0 for equal shares, 1 for disjoint ones.

    The square root of the Jensen-Shannon divergence in bits (Lin 1991; Endres and Schindelin 2003).
    """
    p, q = expected / expected.sum(), seen / seen.sum()
    middle = (p + q) / 2
    return float(np.sqrt(max(0.0, (_divergence(p, middle) + _divergence(q, middle)) / 2)))


def psi_threshold(inputs: float, other_inputs: float, bins: int) -> float:
    """The PSI that two samples of one distribution exceed with a probability of about `FALSE_ALARMS`, and at least MIN_PSI.

    For samples of n and m inputs in b bins, PSI / (1/n + 1/m) is approximately chi-squared with b - 1 degrees of freedom
    (Yurdakul, Statistical Properties of Population Stability Index, 2018). So a small sample needs a larger index.
    """
    return max(MIN_PSI, (1 / inputs + 1 / other_inputs) * float(chdtri(max(1, bins - 1), FALSE_ALARMS)))


def _drift(expected: Counts, seen: Counts) -> Drift:
    pooled, pooled_seen = _merged(expected, seen)
    threshold = psi_threshold(expected.sum(), seen.sum(), len(pooled))
    return Drift(psi(pooled, pooled_seen), js_distance(expected, seen), threshold)


def _merged(expected: Counts, seen: Counts) -> tuple[Counts, Counts]:
    """The histograms with their sparse bins merged into one: on these the approximation of the threshold does not hold."""
    together = (expected + seen) / (expected.sum() + seen.sum())
    dense = together * min(expected.sum(), seen.sum()) >= MIN_EXPECTED
    if dense.all():
        return expected, seen
    return np.append(expected[dense], expected[~dense].sum()), np.append(seen[dense], seen[~dense].sum())


def _divergence(p: Counts, q: Counts) -> float:
    """The Kullback-Leibler divergence in bits; `q` is positive where `p` is."""
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))


def _array(histogram: Histogram, bins: Sequence[str]) -> Counts:
    return np.array([histogram.get(name, 0) for name in bins], dtype=np.float64)
