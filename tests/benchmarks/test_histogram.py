from __future__ import annotations

import math

import pytest

from benchmarks.histogram import BUCKETS, STEP, Histogram


def test_percentiles_are_those_of_the_latencies_to_the_bucket() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1001):
        histogram.add(milliseconds * 1_000_000)
    assert histogram.count == 1000
    assert histogram.milliseconds(0.5) == pytest.approx(500, abs=0.011)
    assert histogram.milliseconds(0.99) == pytest.approx(990, abs=0.011)
    assert histogram.milliseconds(1) == 1000
    assert histogram.slowest == 1_000_000_000


def test_what_is_slower_than_the_last_bucket_is_counted_and_kept_exactly() -> None:
    histogram = Histogram()
    histogram.add(1)
    histogram.add(3 * BUCKETS * STEP)
    assert histogram.milliseconds(0.5) == 1 / 1e6 * STEP
    assert histogram.milliseconds(1) == 3 * BUCKETS * STEP / 1e6


def test_without_latencies_there_are_no_percentiles() -> None:
    assert math.isnan(Histogram().milliseconds(0.5))
