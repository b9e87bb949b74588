"""Hashed character n-grams: the features for the linear part of an ensemble."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import mmh3
import numpy as np
import numpy.typing as npt

from bunriwiki.artifacts.manifest import NgramsInput

WHITE_SPACE = re.compile(r"\s\s+")


class NgramCounter:
    """Counts n-grams by bucket, exactly as scikit-learn's `HashingVectorizer(analyzer="char", alternate_sign=False)` does.

    The hash is MurmurHash3, 32 bit, of an n-gram's UTF-8. scikit-learn itself would double the time until a worker is ready:
    it imports pandas and scipy.
    """

    def __init__(self, spec: NgramsInput) -> None:
        self._spec = spec

    def count(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Buckets and counts of at least one text, each [texts, n-grams]; rows are padded with bucket 0 at count 0."""
        rows = [np.unique(self._buckets(text), return_counts=True) for text in texts]
        shape = len(texts), max(1, *(len(found) for found, _ in rows))
        buckets = np.zeros(shape, dtype=np.int64)
        counts = np.zeros(shape, dtype=np.float32)
        for number, (found, times) in enumerate(rows):
            buckets[number, : len(found)] = found
            counts[number, : len(found)] = times
        return buckets, counts

    def _buckets(self, text: str) -> npt.NDArray[np.int64]:
        """The bucket of each n-gram of a text."""
        hashes = np.fromiter(map(mmh3.hash, self._ngrams(text)), dtype=np.int64)
        return np.abs(hashes) % self._spec.buckets

    def _ngrams(self, text: str) -> Iterator[str]:
        text = WHITE_SPACE.sub(" ", text[: self._spec.characters].lower())
        for length in range(self._spec.shortest, self._spec.longest + 1):
            for start in range(len(text) - length + 1):
                yield text[start : start + length]
