from __future__ import annotations

import pytest

from bunriwiki.artifacts.answers import Work
from bunriwiki.testing.paths import MODELS
from runners.kcbert import FORWARD_PASS, KcBert
from runners.work import WorkMeter


def test_work_adds_up() -> None:
    meter = WorkMeter()
    assert meter.preprocess(int, "7") == meter.forward(max, 3, 7) == 7
    with pytest.raises(ZeroDivisionError):
        meter.forward(divmod, 1, 0)
    meter.count_tokens(40, 10)
    meter.count_tokens(2, 1)
    assert meter.work == Work(meter.work.preprocess_seconds, meter.work.forward_seconds, 42, 11)
    assert meter.work.preprocess_seconds > 0
    assert meter.work.forward_seconds > 0


def test_the_tokens_of_a_batch_are_those_of_its_forward_passes() -> None:
    texts = ["가", "정말 재미있어요 " * 5, "좋아요", "그냥 그래요", "배송이 늦었어요"]
    model = KcBert(MODELS / "kcbert")
    alone = [model.predict([text]).work for text in texts]
    assert all(work.padding_tokens == 0 for work in alone)
    together = model.predict(texts).work
    assert together.tokens - together.padding_tokens == sum(work.tokens for work in alone)
    longest = sorted(work.tokens for work in alone)
    assert together.tokens == FORWARD_PASS * longest[FORWARD_PASS - 1] + longest[-1]
    assert together.preprocess_seconds > 0
    assert together.forward_seconds > 0
