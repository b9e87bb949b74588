from __future__ import annotations

from bunriwiki.artifacts.answers import Classification
from model_sync.evaluation.remembered import RememberedAnswers

ANSWERS = (Classification("a", 1, {"a": 1}),)


def test_what_was_kept_last_is_there_and_other_models_are_not_touched() -> None:
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
