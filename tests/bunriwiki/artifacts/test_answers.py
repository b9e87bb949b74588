from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.artifacts.answers import classification
from bunriwiki.artifacts.manifest import Label

LABELS = [Label(name=name, ko=name) for name in ("none", "offensive", "hate")]


def test_the_answer_has_the_best_class_and_every_score() -> None:
    answer = classification(np.array([0.2, 0.7, 0.1], dtype=np.float32), LABELS)
    assert (answer.label, answer.score) == ("offensive", 0.7)
    assert answer.details == {"none": 0.2, "offensive": 0.7, "hate": 0.1}


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3).filter(lambda scores: sum(scores) > 1e-3))
def test_scores_are_probabilities_that_sum_to_one(scores: list[float]) -> None:
    answer = classification(np.array(scores, dtype=np.float32), LABELS)
    assert sum(answer.details.values()) == pytest.approx(1, abs=3e-6)
    assert all(0 <= score <= 1 for score in answer.details.values())
    assert answer.score == max(answer.details.values()) == answer.details[answer.label]
