from __future__ import annotations

from typing import Any

import pytest

from bunriwiki.model_store.heartbeats import Served, Shadowed
from model_sync.live.analysis import LiveLimits, LiveMetrics, enough, judge

LIMITS = LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20)
USUAL = Served(inputs=1000, failures=10, batches=1000, seconds=10)  # one per cent, 10 ms


def served(inputs: int = 100, failures: int = 0, batches: int | None = None, each: float = 0.01) -> Served:
    """`each`: seconds for a batch."""
    batches = inputs if batches is None else batches
    return Served(inputs=inputs, failures=failures, batches=batches, seconds=batches * each)


def metrics(now: Served, before: Served = USUAL, **others: Any) -> LiveMetrics:
    return LiveMetrics(version="v2", before="v1", served=now, served_before=before, **others)


@pytest.mark.parametrize(
    ("now", "before", "reason"),
    [
        (served(100, 7), USUAL, "7.0% of the inputs failed, with v1 1.0%; 5 points more are allowed. 7 of 100"),
        (served(100, 6), USUAL, None),
        (served(100, 0), served(1000, 900), None),
        (served(100, 40), served(1000, 360), None),
        (served(100, 6), served(10, 9), "6.0% of the inputs failed"),  # ten inputs say nothing of what is usual
        (served(100, 6), served(0), "6.0% of the inputs failed, with v1 none"),
        # With 50 inputs it would be 6 % at least, or may be 4 %.
        (
            served(3, 3),
            served(0),
            "100.0% of the inputs failed, with v1 none; 5 points more are allowed. 3 of 3",
        ),
        (served(2, 2), served(0), None),
        (served(0), USUAL, None),
    ],
)
def test_failures(now: Served, before: Served, reason: str | None) -> None:
    found = judge(metrics(now, before), LIMITS)
    assert found is None if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("now", "before", "slow"),
    [
        (served(each=0.021), USUAL, True),
        (served(each=0.019), USUAL, False),
        (served(49, each=1), USUAL, False),  # too few
        (served(each=1), served(49), False),
        (served(each=0.0049), served(each=0.0001), False),  # noise
        (served(each=0.006), served(each=0.0001), True),
    ],
)
def test_latency(now: Served, before: Served, slow: bool) -> None:
    reason = judge(metrics(now, before), LIMITS)
    assert (reason is not None and "ms for an input" in reason) == slow


def test_what_it_says_of_a_slow_version() -> None:
    assert judge(metrics(served(each=0.3)), LIMITS) == (
        "300.0 ms for an input, v1 took 10.0; 2 times that is allowed. 0 of 100 inputs failed"
    )


@pytest.mark.parametrize(
    ("size_before", "size_now"), [(1, 1), (1, 64), (64, 1), (64, 64), (8, 3), (3, 8)], ids=lambda size: f"{size} at once"
)
@pytest.mark.parametrize(("of_a_batch", "of_an_input"), [(0.02, 0), (0, 0.02), (0.01, 0.001)])
def test_another_load_is_not_held_against_a_version(
    of_a_batch: float, of_an_input: float, size_before: int, size_now: int
) -> None:
    def under(size: int) -> Served:
        return served(inputs=64 * size, batches=64, each=of_a_batch + of_an_input * size)

    assert judge(metrics(under(size_now), under(size_before)), LIMITS) is None


@pytest.mark.parametrize("size", [1, 8, 64])
def test_a_version_that_is_slow_under_the_same_load_is_found(size: int) -> None:
    one, other = served(64 * size, batches=64, each=0.01 * size), served(64 * size, batches=64, each=0.03 * size)
    assert judge(metrics(other, one), LIMITS)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"stuck": 1}, "workers that are busy with one batch for more than 30 s: 1"),
        ({"deaths": 3}, "workers that died with it: 3"),
        ({"deaths": 2}, None),
        ({"shadowed": Shadowed(inputs=100, differing=21)}, "21.0% of 100 copies were answered differently than by v1; 20% are"),
        ({"shadowed": Shadowed(inputs=100, differing=20)}, None),
        ({"shadowed": Shadowed(inputs=10, differing=10)}, None),  # it may be 20 % of 50
        ({"shadowed": Shadowed(inputs=11, differing=11)}, "100.0% of 11 copies"),
    ],
)
def test_workers_and_copies(others: dict[str, Any], reason: str | None) -> None:
    found = judge(metrics(served(), **others), LIMITS)
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_all_reasons_are_given() -> None:
    reason = judge(metrics(served(100, 50, each=1), deaths=4), LIMITS)
    assert reason is not None
    assert ("failed, with" in reason, "ms for an input" in reason, "died" in reason) == (True, True, True)


def test_a_worker_of_an_older_program_counts_no_batches() -> None:
    assert judge(metrics(Served(inputs=100, seconds=100), Served(inputs=100, seconds=1)), LIMITS) is None


@pytest.mark.parametrize(("now", "before", "copies"), [(49, 50, 50), (50, 49, 50), (50, 50, 49)])
def test_both_have_to_have_answered_enough(now: int, before: int, copies: int) -> None:
    seen = metrics(served(now), served(before), shadowed=Shadowed(inputs=copies))
    assert not enough(seen, LIMITS, shadow=True)
    assert enough(seen, LIMITS, shadow=False) == (copies == 49)


def test_figures_for_people() -> None:
    assert str(metrics(served(480, each=0.0031))) == "480 inputs, 0 failed, 3.1 ms each; before: 10.0 ms"
    assert str(metrics(served(0), served(0))) == "0 inputs, 0 failed"
