from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.hostile import exceeded
from bunriwiki.testing.crowd.phase import Phase
from bunriwiki.testing.load import Outcome


def phase(*, seconds: float = 0.01, memory: float = 100.0, **counts: int) -> Phase:
    found = Outcome(Counter({"200": 10, **counts}), [seconds] * 10, 1.0)
    return Phase({"slow head": {"408": 3}}, {"texts": found}, memory)


@pytest.mark.parametrize(
    ("hostile", "sentence"),
    [
        (phase(seconds=0.021), "p99 of texts is 2.1 times as long"),
        (phase(memory=165), "Round 1: the gateway grew by 65 MB; 64 are allowed."),
        (phase(closed=2), "Round 1: honest texts failed: {'closed': 2}."),
        (Phase({}, {"texts": Outcome()}, 100), "Round 1: honest texts failed: {'none sent': 0}."),
    ],
    ids=["slow", "memory", "failures", "no request"],
)
def test_a_bound_that_is_exceeded(hostile: Phase, sentence: str) -> None:
    assert any(found.startswith(sentence) for found in exceeded([(phase(), hostile)], 100, 64))


def test_the_bounds_hold() -> None:
    assert exceeded([(phase(), phase(seconds=0.019, memory=160))], 100, 64) == []


def test_the_median_round_counts_for_the_latency() -> None:
    slow, fast = phase(seconds=0.1), phase()
    assert exceeded([(fast, slow), (fast, fast), (fast, fast)], 100, 64) == []
