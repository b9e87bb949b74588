"""The hate speech classifier: comments in, a score per class out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bunriwiki.artifacts.answers import Answers, Classification, classification
from bunriwiki.artifacts.features import UNKNOWN_TOKENS
from bunriwiki.artifacts.manifest import DamagedArtifactError, TokensInput
from bunriwiki.artifacts.models import KCBERT
from bunriwiki.artifacts.text import Encoded, TextEncoder
from runners.engines import open_engine
from runners.loading import isolating, threads
from runners.models import TextClassifier
from runners.work import WorkMeter

FORWARD_PASS = 4  # comments, of similar length: a fifth faster than 16, which need more padding


class KcBert(TextClassifier):
    """A loaded version of the classifier. Safe to call from many threads. Raises DamagedArtifactError."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, KCBERT)
        if not isinstance(self._manifest.input, TokensInput):
            raise DamagedArtifactError(f"{folder} takes {self._manifest.input.kind}, a BERT takes tokens")
        self._encoder = TextEncoder(folder / "tokenizer.json", self._manifest.input)
        self._engine = open_engine(folder, self._manifest, threads())

    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        """One result per text, in order; `truncated` says that the end of a text was not read."""
        meter = WorkMeter()
        encoded = meter.preprocess(self._encoder.encode, texts)
        unknown = [self._encoder.unknown_share(text) for text in encoded]
        return self._answers(isolating(partial(self._classify, meter=meter), encoded), meter, {UNKNOWN_TOKENS: unknown})

    def _classify(self, encoded: Sequence[Encoded], meter: WorkMeter) -> list[Classification]:
        answers: dict[int, Classification] = {}
        for group, tensors in self._encoder.batches(encoded, FORWARD_PASS):
            scores = meter.forward(self._engine.run, tensors)["scores"]
            tokens = tensors["input_ids"].size
            meter.count_tokens(tokens, tokens - sum(len(encoded[position].ids) for position in group))
            for position, row in zip(group, scores, strict=True):
                answers[position] = classification(row, self._manifest.labels, encoded[position].truncated)
        return [answers[position] for position in range(len(encoded))]
