"""The shipped models on their reference sets: at least as good as what the project promises of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sklearn.metrics import accuracy_score, f1_score

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.reference import read_reference_photos, read_reference_texts
from bunriwiki.testing.paths import MODELS
from runners.kcbert import KcBert
from runners.models import TextClassifier
from runners.sentiment import Sentiment
from runners.yolo import Yolo
from training.judge_photos import boxes_of
from training.metrics import Boxes, average_precision
from training.photos import CLASSES

pytestmark = pytest.mark.slow


def labels(classifier: TextClassifier, texts: Sequence[str]) -> list[str]:
    answers = classifier.predict(texts).results
    return [answer.label for answer in answers if isinstance(answer, Classification)]


def test_comments() -> None:
    reference = read_reference_texts(MODELS / "kcbert")
    answered = labels(KcBert(MODELS / "kcbert"), [one.text for one in reference])
    assert f1_score([one.label for one in reference], answered, average="macro") >= 0.57


def test_reviews() -> None:
    reference = read_reference_texts(MODELS / "sentiment")
    answered = labels(Sentiment(MODELS / "sentiment"), [one.text for one in reference])
    assert accuracy_score([one.label for one in reference], answered) >= 0.65  # of 600: four points of noise


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ultralytics' own
@pytest.mark.parametrize(("kind", "least"), [("close-up", 0.65), ("context", 0.12)])
def test_photos(kind: str, least: float) -> None:
    folder = MODELS / "yolo"
    reference = [sample for sample in read_reference_photos(folder) if sample.kind == kind]
    detector = Yolo(folder)
    answers = []
    for sample in reference:
        [answer] = detector.predict([Photo(data=(folder / sample.image).read_bytes(), confidence=0.001)]).results
        assert isinstance(answer, Detections)
        answers.append(boxes_of(answer))
    truth = [
        Boxes.of([one.box for one in sample.objects], [CLASSES.index(one.label) for one in sample.objects])
        for sample in reference
    ]
    precision = average_precision(answers, truth)
    assert sum(at_half for at_half, _ in precision.values()) / len(CLASSES) >= least
