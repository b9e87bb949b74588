from __future__ import annotations

import time
from itertools import pairwise

import pytest

from bunriwiki.artifacts.bounded_yaml import MAX_DEPTH, YamlBoundsError, load

LEVELS = "abcdefghijklmnopqrst"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(LEVELS)
)


def test_a_document_is_loaded() -> None:
    assert load("a: [1, {b: 갈색}]\nc: 2026-11-25\n".encode(), 100)["a"] == [1, {"b": "갈색"}]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BOMB, "alias"),
        ("a: &a 1\nb: *a", "repeat the value"),
        ("&a [*a]", "alias"),
        ("a: &a {b: 1}\nc:\n  <<: *a", "alias"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deep"),
        ("[" * 400_000, "deep"),
        ("a: " + "1" + ":0" * 400_000, "characters"),
        ("a: " + "x" * 1_000_001, "bytes"),
    ],
)
def test_what_would_cost_much_is_rejected_at_once(text: str, complaint: str) -> None:
    began = time.process_time()
    with pytest.raises(YamlBoundsError, match=complaint):
        load(text.encode(), 1_000_000)
    assert time.process_time() - began < 1


def test_as_deep_as_is_allowed() -> None:
    assert load(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, 100)
