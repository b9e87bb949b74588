from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import gammainccinv

from bunriwiki.artifacts.features import LABEL, SCORE, Histogram
from model_sync.quality.drift import (
    FALSE_ALARMS,
    MIN_INPUTS,
    MIN_PSI,
    Counts,
    aligned,
    compare,
    js_distance,
    psi,
    psi_threshold,
)

GENERATOR = np.random.default_rng(7)
SHAPES = {
    "equal": np.full(20, 0.05),
    "few": np.array([0.7, 0.2, 0.1]),
    "falling": np.exp(-0.6 * np.arange(20)),
    "rare": np.array([0.9, *[0.1 / 19] * 19]),
}


def drawn(shares: Counts, inputs: int) -> Histogram:
    counts = GENERATOR.multinomial(inputs, shares / shares.sum())
    return {str(name): int(count) for name, count in enumerate(counts) if count}


def test_psi_by_hand() -> None:
    expected, seen = np.array([50.0, 50.0]), np.array([75.0, 25.0])
    assert psi(expected, seen) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))
    assert psi(expected, expected) == 0
    assert psi(seen, expected) == pytest.approx(psi(expected, seen))


def test_an_empty_bin_counts_as_half_an_input() -> None:
    assert psi(np.array([100.0, 0.0]), np.array([50.0, 50.0])) == pytest.approx(
        (0.5 - 1) * math.log(0.5) + (0.5 - 0.005) * math.log(0.5 / 0.005)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_distance_is_scipys(shape: str) -> None:
    for _ in range(20):
        pair = aligned(drawn(SHAPES[shape], 300), drawn(SHAPES["equal"][: len(SHAPES[shape])], 500))
        assert js_distance(*pair) == pytest.approx(float(jensenshannon(*pair, base=2)), abs=1e-9)
    assert js_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_bins_are_aligned_by_name() -> None:
    first, second = aligned({"b": 1, "a": 2}, {"c": 3})
    assert (first.tolist(), second.tolist()) == ([2, 1, 0], [0, 0, 3])


def test_a_small_sample_needs_a_larger_index() -> None:
    chi_squared = 2 * float(gammainccinv(19 / 2, FALSE_ALARMS))  # 19 degrees of freedom
    assert psi_threshold(200, 1000, 20) == pytest.approx(0.006 * chi_squared)
    assert psi_threshold(1e6, 1e6, 20) == MIN_PSI


def test_few_inputs_say_nothing() -> None:
    few, many = {LABEL: {"a": MIN_INPUTS - 1}}, {LABEL: {"a": MIN_INPUTS}, SCORE: {"0.5": MIN_INPUTS}}
    assert compare(many, few) == compare(few, many) == {}
    assert compare(many, many).keys() == {LABEL, SCORE}
    assert not compare(many, many)[LABEL].drifted


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("reference", "window"), [(210, 200), (1000, 200), (1000, 1000), (1000, 20_000)])
def test_false_alarms_are_rare(shape: str, reference: int, window: int) -> None:
    """The approximation promises 1e-4; simulations of 20,000 draws found at most 7e-4, with sparse bins."""
    alarms = 0
    for _ in range(500):
        pair = ({LABEL: drawn(SHAPES[shape], inputs)} for inputs in (reference, window))
        alarms += compare(*pair)[LABEL].drifted
    assert alarms <= 3


@pytest.mark.parametrize(("reference", "window"), [(210, 300), (1000, 300)])
def test_a_shift_is_noticed(reference: int, window: int) -> None:
    before, after = {LABEL: drawn(SHAPES["few"], reference)}, {LABEL: drawn(np.array([0.4, 0.3, 0.3]), window)}
    assert compare(before, after)[LABEL].drifted
    new = {LABEL: {**drawn(SHAPES["few"], window), "never seen": window // 4}}
    assert compare(before, new)[LABEL].drifted
