from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.web.bounded_json import MAX_VALUES, check_values
from bunriwiki.web.problems import RequestError

JSONS = st.recursive(
    st.none() | st.integers() | st.text(alphabet='",[{a', max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=5),
    max_leaves=20,
)


def values(content: Any) -> int:
    """The values of a JSON document, itself included."""
    match content:
        case list():
            return 1 + sum(map(values, content))
        case dict():
            return 1 + sum(map(values, content.values()))
    return 1


@pytest.mark.parametrize("body", [b"[" * 1001, b"[" + b"1," * 1001, b'{"a":' * 1001, b'{"a":1,' + b'"b":1,' * 1000])
def test_many_values_are_rejected(body: bytes) -> None:
    with pytest.raises(RequestError, match="more than 1000 values") as caught:
        check_values(body)
    assert caught.value.status == 413


def test_few_values_of_many_bytes_are_accepted() -> None:
    check_values(json.dumps({"reason": "x" * 60_000, "models": ["a"] * 900}).encode())


@given(JSONS, st.integers(1, 400))
def test_what_is_accepted_has_few_values(content: Any, times: int) -> None:
    repeated = [content] * times
    try:
        check_values(json.dumps(repeated).encode())
    except RequestError:
        return
    assert values(repeated) <= MAX_VALUES + 1
