"""The runners, as BentoML starts them: each model in a process of its own.

What answers, the models' classes, knows no BentoML: the sidecar has a version answer with the same classes (`evaluation.py`).
"""

from __future__ import annotations

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import Photo
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.worker import Runner, runner
from runners.yolo import Yolo


@runner("yolo")
class YoloRunner(Runner[Photo, Detections]):
    """The detector in a process of its own."""

    def __init__(self) -> None:
        super().__init__("yolo", Photo, Yolo)


@runner("kcbert")
class KcBertRunner(Runner[str, Classification]):
    """The hate speech classifier in a process of its own."""

    def __init__(self) -> None:
        super().__init__("kcbert", str, KcBert)


@runner("sentiment")
class SentimentRunner(Runner[str, Classification]):
    """The sentiment ensemble in a process of its own."""

    def __init__(self) -> None:
        super().__init__("sentiment", str, Sentiment)
