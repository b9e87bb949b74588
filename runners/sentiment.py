"""The sentiment ensemble: sentences in, a score per class out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bentoml
import numpy as np

from artifacts.answers import Answers, Classification, classification
from artifacts.golden import read_golden_texts
from runners.engines import open_engine
from runners.loading import TRIED_AT_LOAD, hold_to_golden, isolating, read_verified, threads
from runners.turns import Rest, no_rest
from runners.worker import CONFIG, Runner


class Sentiment:
    """A version of the ensemble, loaded. Raises DamagedArtifactError."""

    def __init__(self, folder: Path) -> None:
        self._manifest = read_verified(folder, "sentiment")
        self._engine = open_engine(folder, self._manifest, threads())
        self._folder = folder

    @property
    def version(self) -> str:
        return self._manifest.version

    def warm_up(self, rest: Rest = no_rest) -> None:
        """Answer golden samples. Raises DamagedArtifactError when an answer is not theirs."""
        for sample in read_golden_texts(self._folder)[:TRIED_AT_LOAD]:
            rest()
            hold_to_golden(self._folder, sample, self.predict([sample.text]).results[0])

    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        """One result per text, in order."""
        results = isolating(self._classify, texts)
        return Answers(model="sentiment", version=self._manifest.version, results=tuple(results))

    def _classify(self, texts: Sequence[str]) -> list[Classification]:
        columns = self._engine.run({"text": np.array(texts, dtype=object)})
        missing = [label.name for label in self._manifest.labels if label.name not in columns]
        if missing:
            raise ValueError(f"the model's answer has no column {missing[0]}, only {sorted(columns)}")
        scores = np.stack([columns[label.name].astype(np.float32) for label in self._manifest.labels], axis=1)
        return [classification(row, self._manifest.labels) for row in scores]


@bentoml.service(name="sentiment", **CONFIG)
class SentimentRunner(Runner[str, Classification]):
    """The sentiment ensemble in a process of its own."""

    def __init__(self) -> None:
        super().__init__("sentiment", Sentiment)

    @bentoml.api
    def predict(self, batch: list[str], version: str) -> Answers[Classification]:
        """Answer a batch from exactly `version`; with no results when that is not in memory."""
        return self.answer(batch, version)
