"""What the loaded versions of the models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bunriwiki.artifacts.answers import Answers, Classification
from bunriwiki.artifacts.golden import read_golden_texts
from runners.loading import TRIED_AT_LOAD, hold_to_golden, read_verified
from runners.throttle import Rest, no_rest


class Loaded:
    """A version whose files were verified. Raises DamagedArtifactError."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._manifest = read_verified(folder, model)

    @property
    def version(self) -> str:
        return self._manifest.version


class TextClassifier(Loaded, ABC):
    """A loaded version that takes texts."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        """One result per text, in order."""

    def warm_up(self, rest: Rest = no_rest) -> None:
        """Answer golden samples. Raises DamagedArtifactError when an answer is not theirs."""
        for sample in read_golden_texts(self._folder)[:TRIED_AT_LOAD]:
            rest()
            hold_to_golden(self._folder, sample, self.predict([sample.text]).results[0])
