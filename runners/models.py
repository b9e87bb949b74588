"""The base classes of loaded versions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bunriwiki.artifacts.answers import Answers, Classification, Failure
from bunriwiki.artifacts.golden import read_golden_texts
from bunriwiki.artifacts.models import ModelSpec
from runners.loading import WARM_UP_SAMPLES, compare_to_golden, read_verified
from runners.throttle import Pause, unthrottled
from runners.work import WorkMeter

AnswerT = TypeVar("AnswerT")


class Loaded:
    """A version of the model `spec` whose files are verified. Raises DamagedArtifactError."""

    def __init__(self, folder: Path, spec: ModelSpec[Any, Any]) -> None:
        self._folder = folder
        self._manifest = read_verified(folder, spec.name)

    @property
    def version(self) -> str:
        return self._manifest.version

    def _answers(
        self, results: Iterable[AnswerT | Failure], meter: WorkMeter, measured: Mapping[str, Sequence[float]] | None = None
    ) -> Answers[AnswerT]:
        """The answers to a batch, with the name and the version of this model.

        `meter` has measured the work, and `measured` has what was measured of the inputs.
        """
        return Answers(self._manifest.model, self._manifest.version, tuple(results), meter.work, measured or {})


class TextClassifier(Loaded, ABC):
    """A loaded version that classifies texts."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        """One result per text, in order."""

    def warm_up(self, pause: Pause = unthrottled) -> None:
        """Answer golden samples. Raises DamagedArtifactError if an answer differs from the sample's."""
        for sample in read_golden_texts(self._folder)[:WARM_UP_SAMPLES]:
            pause()
            compare_to_golden(self._folder, sample, self.predict([sample.text]).results[0])
