from __future__ import annotations

from bunriwiki.artifacts.models import KCBERT, SENTIMENT, YOLO
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.servable import servable_class
from runners.yolo import Yolo


def test_the_classes_of_the_models() -> None:
    assert servable_class(YOLO) is Yolo
    assert servable_class(KCBERT) is KcBert
    assert servable_class(SENTIMENT) is Sentiment
