from __future__ import annotations

import math
import random
import statistics

import pytest

from model_sync.evaluation.latency import CONFIDENCE, MIN_PAIRS_ABOVE, Interval, enough, median_interval, own_latency, slowdown


@pytest.mark.parametrize(
    ("number", "rank"),
    [(11, 1), (22, 4), (46, 12), (118, 41)],  # scipy.stats.binom.ppf(0.0005, number, 0.5)
)
def test_the_bounds_are_order_statistics(number: int, rank: int) -> None:
    values = [float(value) for value in range(1, number + 1)]
    random.Random(1).shuffle(values)
    found = median_interval(values)
    assert (found.low, found.high) == (rank, number + 1 - rank)
    assert found.median == (number + 1) / 2


def test_ten_values_say_nothing() -> None:
    found = median_interval([3.0] * 10)
    assert (found.low, found.high) == (0, math.inf)
    assert found.compared_with(2) == "undecided"


def test_the_interval_contains_the_median_as_often_as_it_says() -> None:
    """Of a distribution with a long tail, as latencies have it. The probability is exact, so the count is binomial."""
    draw = random.Random(7)
    trials = 20_000
    missed = 0
    for _ in range(trials):
        found = median_interval([draw.lognormvariate(0, 1.5) for _ in range(22)])
        missed += not found.low <= 1 <= found.high
    expected = trials * (1 - CONFIDENCE)
    assert missed <= expected + 5 * math.sqrt(expected)


@pytest.mark.parametrize(
    ("interval", "side"),
    [(Interval(1, 0.9, 2), "below"), (Interval(3, 2.1, 4), "above"), (Interval(2.5, 2, 3), "undecided")],
)
def test_an_interval_is_compared_with_a_limit(interval: Interval, side: str) -> None:
    assert interval.compared_with(2) == side


def test_noise_that_slows_down_either_version_does_not_reject_a_good_one() -> None:
    """Answers of 2 ms that are interrupted for 0 to 100 ms, at random: none of 2,000 is rejected."""
    draw = random.Random(3)

    def took() -> float:
        return 2 + (draw.uniform(0, 100) if draw.random() < 0.5 else draw.gauss(0, 0.1))

    sides = [slowdown([(took(), took()) for _ in range(46)]).compared_with(2) for _ in range(2000)]
    assert sides.count("above") == 0


def test_pairs_are_judged_by_their_ratios_or_by_the_candidate_alone() -> None:
    pairs = [(float(number), 2.0) for number in range(1, 24)]
    assert slowdown(pairs).median == 6
    assert own_latency(pairs).median == statistics.median(range(1, 24))


def test_enough_pairs() -> None:
    pairs = [(1.0, 1.0)] * (MIN_PAIRS_ABOVE - 1)
    assert enough(pairs, "below")
    assert not enough(pairs, "above")
    assert enough([*pairs, (1.0, 1.0)], "above")
    assert not enough(pairs * 10, "undecided")
