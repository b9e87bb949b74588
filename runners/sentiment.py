"""The sentiment ensemble: sentences in, a score per class out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bunriwiki.artifacts.answers import Answers, Classification, classification
from bunriwiki.artifacts.models import SENTIMENT
from runners.engines import open_engine
from runners.loading import isolating, threads
from runners.models import TextClassifier
from runners.work import WorkMeter


class Sentiment(TextClassifier):
    """A loaded version of the ensemble. Raises DamagedArtifactError."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SENTIMENT)
        self._engine = open_engine(folder, self._manifest, threads())

    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        """One result per text, in order."""
        meter = WorkMeter()
        return self._answers(isolating(partial(self._classify, meter=meter), texts), meter)

    def _classify(self, texts: Sequence[str], meter: WorkMeter) -> list[Classification]:
        columns = meter.forward(self._engine.run, {"text": np.array(texts, dtype=object)})  # a pyfunc tokenizes, too
        missing = [label.name for label in self._manifest.labels if label.name not in columns]
        if missing:
            raise ValueError(f"the model's answer has no column {missing[0]}, only {sorted(columns)}")
        scores = np.stack([columns[label.name].astype(np.float32) for label in self._manifest.labels], axis=1)
        return [classification(row, self._manifest.labels) for row in scores]
