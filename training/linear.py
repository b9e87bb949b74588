"""Linear members of an ensemble: logistic regression on hashed n-grams, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from bunriwiki.artifacts.manifest import NgramsInput
from bunriwiki.artifacts.ngrams import NgramCounter

Arrays = dict[str, npt.NDArray[Any]]


def inverse_document_frequency(counts: sparse.csr_matrix, at_least: int) -> npt.NDArray[np.float32]:
    """Smoothed IDF per bucket; 0 for buckets in fewer than `at_least` texts, which removes them."""
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log((1 + counts.shape[0]) / (1 + frequency)) + 1
    return np.where(frequency >= at_least, idf, 0).astype(np.float32)


def logistic(features: sparse.csr_matrix, labels: npt.NDArray[Any], *, strength: float, balanced: bool) -> Arrays:
    """Multinomial logistic regression: `coef` [features, classes] and `bias` [classes].

    `strength` is the inverse of the regularisation; `balanced` gives every class the same weight.
    """
    used = np.flatnonzero(np.bincount(features.indices, minlength=features.shape[1]))
    weight = "balanced" if balanced else None
    classifier = LogisticRegression(C=strength, max_iter=300, class_weight=weight)
    classifier.fit(features[:, used], labels)
    coefficients = np.zeros((features.shape[1], len(classifier.classes_)), dtype=np.float32)
    coefficients[used] = classifier.coef_.T
    return {"coef": coefficients, "bias": classifier.intercept_.astype(np.float32)}


def count_ngrams(spec: NgramsInput, texts: Sequence[str]) -> sparse.csr_matrix:
    """The n-grams of each text as they are counted when it is served, [texts, buckets]."""
    buckets, counts = NgramCounter(spec).count(texts)
    filled = counts > 0
    return sparse.csr_matrix((counts[filled], (np.nonzero(filled)[0], buckets[filled])), shape=(len(texts), spec.buckets))
