from __future__ import annotations

from bunriwiki.artifacts.answers import Classification
from model_sync.evaluation.remembered import RememberedAnswers

ANSWERS = (Classification("a", 1, {"a": 1}),)


def test_the_last_answers_of_each_model_are_kept() -> None:
    remembered = RememberedAnswers()
    assert remembered.of("kcbert", "one") is None
    remembered.keep("kcbert", {"one": ANSWERS, "two": ()})
    remembered.keep("sentiment", {"three": ANSWERS})
    assert remembered.of("kcbert", "one") == ANSWERS
    assert remembered.of("kcbert", "two") == ()
    remembered.keep("kcbert", {"two": ANSWERS})
    assert remembered.of("kcbert", "one") is None
    assert remembered.of("kcbert", "two") == ANSWERS
    assert remembered.of("sentiment", "three") == ANSWERS
