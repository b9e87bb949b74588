from __future__ import annotations

import numpy as np
import pytest
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
