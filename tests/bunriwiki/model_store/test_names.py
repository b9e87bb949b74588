from __future__ import annotations

import pytest
from bentoml import Tag
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.model_store.names import MAX_CHARACTERS, to_registry, to_store


@pytest.mark.parametrize("name", ["7", "v3", "2026-11-22", "fallback-9", "1.2.3", "v" * MAX_CHARACTERS])
def test_a_valid_name_is_not_changed(name: str) -> None:
    assert to_store(name) == name


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("V1.2+cu", "0___561.2_2bcu"),
        ("a_b", "a_5fb"),
        ("v1-", "v1_2d"),
        (".v1", "0__.v1"),
        ("latest", "0__latest"),
        ("fallback", "0__fallback"),
        ("가", "0___ea_b0_80"),
        ("0__x", "0_5f_5fx"),
    ],
)
def test_other_names_are_encoded(name: str, version: str) -> None:
    assert to_store(name) == version
    assert to_registry(version) == name


@given(st.text(min_size=1, max_size=15))
def test_encoding_is_reversible(name: str) -> None:
    try:
        version = to_store(name)
    except ValueError:
        return
    assert to_registry(version) == name
    assert Tag("model", version).version == version != "latest"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "^a version needs a name"), ("v" * (MAX_CHARACTERS + 1), "too long"), ("가" * 8, "it has 75 of 63 characters")],
)
def test_an_empty_or_long_name_is_rejected(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_store(name)


@pytest.mark.parametrize("version", ["", "V1", "a__b", "a_5", "_61", "latest", "fallback", "a-", "_ff"])
def test_a_name_that_was_not_encoded_is_rejected(version: str) -> None:
    with pytest.raises(ValueError, match=r"version|codec"):
        to_registry(version)
