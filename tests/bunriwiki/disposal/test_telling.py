from __future__ import annotations

from itertools import permutations

import pytest

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.disposal.telling import BY_PAIR, MARK, OR_TRASH, how_to_tell
from bunriwiki.testing.paths import MODELS

LABELS = [label.name for label in Manifest.read(MODELS / "yolo").labels]


@pytest.mark.parametrize(("label", "other"), list(permutations(LABELS, 2)))
def test_every_pair_has_one_or_two_korean_sentences_in_either_order(label: str, other: str) -> None:
    text = how_to_tell(label, other)
    assert text == how_to_tell(other, label)
    assert text.count(". ") <= 1
    assert text.endswith("다.")
    assert len(text) <= 120


def test_pairs_are_told_apart_by_what_they_are() -> None:
    assert "유리" in how_to_tell("plastic", "glass")
    assert "자석" in how_to_tell("metal", "plastic")
    assert how_to_tell("metal", "paper") == MARK
    assert how_to_tell("trash", "glass") == OR_TRASH
    assert how_to_tell("battery", "plastic") == MARK  # classes of a newer model


def test_all_pairs_are_of_classes_that_the_model_has() -> None:
    assert set().union(*BY_PAIR) <= set(LABELS)
