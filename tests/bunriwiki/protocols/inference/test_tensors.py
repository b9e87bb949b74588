from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.protocols.inference.tensors import elements, join_bytes, split_bytes
from bunriwiki.web.problems import RequestError


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_bytes_round_trip(items: list[bytes]) -> None:
    assert split_bytes("text", join_bytes(items), len(items)) == items


@given(st.binary(max_size=100), st.integers(0, 5))
def test_any_bytes_are_read_to_the_end_or_rejected(raw: bytes, count: int) -> None:
    try:
        items = split_bytes("text", raw, count)
    except RequestError as error:
        assert error.status == 400
    else:
        assert join_bytes(items) == raw
        assert len(items) == count


@pytest.mark.parametrize(
    ("shape", "status"),
    [
        ([-1], 400),
        ([2, -1], 400),
        ([2**63], 413),
        ([129], 413),
        ([2**62] * 8, 413),
        ([10**3000] * 8, 413),
        ([1] * 9, 400),
        ([2**62] * 1_000_000, 400),
    ],
)
def test_shapes_that_no_input_has(shape: list[int], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        elements("text", shape)
    assert caught.value.status == status


def test_a_scalar_has_one_element() -> None:
    assert elements("text", []) == 1
