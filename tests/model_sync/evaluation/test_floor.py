"""The floor of a first version, measured with the bundled text models on their reference sets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.models import SPECS
from bunriwiki.artifacts.reference import ReferenceText, read_reference_texts
from bunriwiki.testing.paths import MODELS
from model_sync.evaluation.gates import Finding, Thresholds, judge_evaluation
from model_sync.evaluation.report import Answer, EvaluationReport
from runners.servable import Servable, servable_class

pytestmark = pytest.mark.slow

THRESHOLDS = Thresholds(agreement=1, quality=2, batch=1e-3, latency=2, labels="same")
BATCH = 32


@dataclass
class Bundled:
    """A bundled model, its reference set, and its answers to that."""

    servable: Servable[str, Classification]
    truth: list[ReferenceText]
    answers: list[Answer]

    def answer(self, texts: Sequence[str]) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(texts), BATCH):
            for result in self.servable.predict(texts[start : start + BATCH]).results:
                assert isinstance(result, Classification)
                found.append(result)
        return found

    def quality(self, answers: Sequence[Answer]) -> Finding:
        report = EvaluationReport(
            golden=(None,), reference=tuple(answers), serving=tuple(self.answers), positions=(), alone=(),
            milliseconds=((1.0, 1.0),) * 22,
        )  # fmt: skip
        [found] = [found for found in judge_evaluation(report, self.truth, THRESHOLDS, first=True) if found.gate == "quality"]
        return found


@pytest.fixture(scope="module", params=["kcbert", "sentiment"])
def bundled(request: pytest.FixtureRequest) -> Bundled:
    folder = MODELS / request.param
    made = Bundled(servable_class(SPECS[request.param])(folder), read_reference_texts(folder), [])
    made.answers = made.answer([sample.text for sample in made.truth])
    return made


def test_the_bundled_version_is_above_the_floor(bundled: Bundled) -> None:
    assert bundled.quality(bundled.answers).passed


def test_every_exchange_of_labels_is_below_the_floor(bundled: Bundled) -> None:
    labels = sorted({sample.label for sample in bundled.truth})
    for names in itertools.permutations(labels):
        named = dict(zip(labels, names, strict=True))
        answers = [
            Classification(named[answer.label], 1, {}) for answer in bundled.answers if isinstance(answer, Classification)
        ]
        assert bundled.quality(answers).passed == (names == tuple(labels)), names


def test_texts_that_a_wrong_tokenizer_garbled_are_below_the_floor(bundled: Bundled) -> None:
    draw = random.Random(0)
    garbled = [
        "".join(chr(draw.randrange(0xAC00, 0xD7A4)) if letter.strip() else " " for letter in sample.text)
        for sample in bundled.truth
    ]
    assert not bundled.quality(bundled.answer(garbled)).passed
