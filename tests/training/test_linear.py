from __future__ import annotations

import numpy as np
from scipy import sparse

from bunriwiki.artifacts.manifest import NgramsInput
from model_sync.importing.compilers.sentiment import LABELS as LABELS_OF_THE_IMPORTER
from training import sentiment_model
from training.linear import count_ngrams, inverse_document_frequency, logistic
from training.reviews import LABELS as LABELS_OF_REVIEWS
from training.sentiment_model import tf_idf

SPEC = NgramsInput(shortest=1, longest=2, buckets=2**12, characters=50)
TEXTS = ["좋아 정말 좋아", "좋아요", "나빠", "정말 나빠요", "그저 그래", "그래요"] * 5
LABELS = np.array([0, 0, 1, 1, 2, 2] * 5)


def test_counts_are_those_that_are_served() -> None:
    counts = count_ngrams(SPEC, ["가가나", "가"])
    assert counts.shape == (2, SPEC.buckets)
    assert counts.sum(axis=1).ravel().tolist() == [[5, 1]]


def test_the_sentiment_model_counts_alike() -> None:
    """It imports nothing of this project, so it repeats the counter's settings."""
    spec = NgramsInput(shortest=1, longest=5, buckets=sentiment_model.BUCKETS, characters=100)
    assert (sentiment_model.count(TEXTS) != count_ngrams(spec, TEXTS)).nnz == 0
    assert sentiment_model.LABELS == LABELS_OF_REVIEWS == LABELS_OF_THE_IMPORTER


def test_a_rare_gram_is_removed() -> None:
    counts = sparse.csr_matrix(np.array([[1, 0, 2], [1, 1, 0], [3, 0, 0]], dtype=np.float32))
    idf = inverse_document_frequency(counts, at_least=2)
    assert idf[0] == 1  # in every text
    assert idf[1] == idf[2] == 0


def test_learns_and_leaves_unseen_buckets_alone() -> None:
    counts = count_ngrams(SPEC, TEXTS)
    features = tf_idf(counts, inverse_document_frequency(counts, 1))
    fitted = logistic(features, LABELS, strength=10, balanced=True)
    assert fitted["coef"].shape == (SPEC.buckets, 3)
    assert np.flatnonzero(fitted["coef"].any(axis=1)).tolist() == np.unique(counts.indices).tolist()
    assert ((features @ fitted["coef"] + fitted["bias"]).argmax(axis=1) == LABELS).all()
