from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.difference import Difference


def test_outliers_do_not_move_the_median_much() -> None:
    found = Difference.of([*range(99), 10_000])
    assert (found.median, found.low, found.high) == (49.5, 40, 59)
    assert str(found) == "49.5 (40.0 to 59.0)"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_median_is_in_the_interval(differences: list[float]) -> None:
    found = Difference.of(differences)
    assert min(differences) <= found.low <= found.median <= found.high <= max(differences)
