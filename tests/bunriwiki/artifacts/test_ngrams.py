from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bunriwiki.artifacts.manifest import NgramsInput
from bunriwiki.artifacts.ngrams import NgramCounter

SPEC = NgramsInput(shortest=1, longest=2, buckets=2**16, characters=4)


def test_each_ngram_is_counted() -> None:
    buckets, counts = NgramCounter(SPEC).count(["가가나"])  # 가 twice, 나, 가가, 가나
    assert buckets.shape == counts.shape == (1, 4)
    assert sorted(counts[0].tolist()) == [1, 1, 1, 2]
    assert buckets.dtype == np.int64
    assert counts.dtype == np.float32


CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \t\n\u3000가A")


@pytest.mark.slow
@given(
    texts=st.lists(st.text(CHARACTERS, max_size=20), min_size=1),
    lengths=st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted),
    buckets=st.sampled_from([7, 2**10, 2**18]),
)
def test_the_counts_are_those_of_scikit_learn(texts: list[str], lengths: list[int], buckets: int) -> None:
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 (no other test here requires it)

    shortest, longest = lengths
    vectorizer = HashingVectorizer(
        analyzer="char", ngram_range=(shortest, longest), n_features=buckets, alternate_sign=False, norm=None
    )
    found, counts = NgramCounter(NgramsInput(shortest=shortest, longest=longest, buckets=buckets, characters=20)).count(texts)
    dense = np.zeros((len(texts), buckets))
    np.add.at(dense, (np.arange(len(texts))[:, None], found), counts)
    assert np.array_equal(dense, vectorizer.transform(texts).toarray())


def test_a_text_does_not_depend_on_its_neighbours() -> None:
    counter = NgramCounter(SPEC)
    alone = counter.count(["가나"])
    together = counter.count(["가나", "다라마바", ""])
    filled = together[1][0] > 0
    assert sorted(zip(*(array[0].tolist() for array in alone), strict=True)) == sorted(
        zip(*(array[0][filled].tolist() for array in together), strict=True)
    )
    assert not together[1][2].any()


def test_case_and_runs_of_white_space_do_not_matter() -> None:
    counter = NgramCounter(NgramsInput(shortest=1, longest=3, buckets=2**16, characters=20))
    for text, other in (("A  b", "a b"), ("가\n\n나", "가 나")):
        assert [array.tolist() for array in counter.count([text])] == [array.tolist() for array in counter.count([other])]


def test_only_the_first_characters_count() -> None:
    counter = NgramCounter(SPEC)
    assert np.array_equal(counter.count(["가나다라"])[0], counter.count(["가나다라마바"])[0])


def test_a_text_without_ngrams() -> None:
    buckets, counts = NgramCounter(SPEC).count([""])
    assert buckets.shape == counts.shape == (1, 1)
    assert not counts.any()


def test_an_empty_range_is_rejected() -> None:
    with pytest.raises(ValidationError, match="longer than the longest"):
        NgramsInput(shortest=3, longest=2, buckets=8, characters=8)
