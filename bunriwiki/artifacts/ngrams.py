"""Hashed character n-grams: the features for the linear part of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer

from bunriwiki.artifacts.manifest import NgramsInput


class NgramCounter:
    """Counts n-grams by bucket. The hash is scikit-learn's (MurmurHash3, 32 bit), which its documentation guarantees."""

    def __init__(self, spec: NgramsInput) -> None:
        self._characters = spec.characters
        self._vectorizer = HashingVectorizer(
            analyzer="char",
            ngram_range=(spec.shortest, spec.longest),
            n_features=spec.buckets,
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
        )

    def count(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Buckets and counts of at least one text, each [texts, n-grams]; rows are padded with bucket 0 at count 0."""
        counts = self._vectorizer.transform([text[: self._characters] for text in texts])
        lengths = np.diff(counts.indptr)
        filled = np.arange(max(1, lengths.max())) < lengths[:, None]
        buckets = np.zeros(filled.shape, dtype=np.int64)
        values = np.zeros(filled.shape, dtype=np.float32)
        buckets[filled], values[filled] = counts.indices, counts.data
        return buckets, values
