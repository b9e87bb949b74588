from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bunriwiki.artifacts.manifest import DamagedArtifactError, NgramsInput, TokensInput
from bunriwiki.artifacts.text import TextEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "분리", "##수거", "좋아"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def encoder(file: Path, max_tokens: int = 6) -> TextEncoder:
    return TextEncoder(file, TokensInput(max_tokens=max_tokens, vocabulary=len(WORDS)))


def test_encoding_adds_the_special_tokens(file: Path) -> None:
    [encoded] = encoder(file).encode(["분리수거 좋아"])
    assert encoded.ids == [2, 4, 5, 6, 3]
    assert not encoded.truncated


def test_a_text_that_was_cut_is_marked(file: Path) -> None:
    exact, longer = encoder(file).encode(["좋아 " * 4, "좋아 " * 5])
    assert (len(exact.ids), exact.truncated) == (6, False)
    assert (len(longer.ids), longer.truncated) == (6, True)


def test_batches_group_texts_of_similar_length(file: Path) -> None:
    known = encoder(file)
    encoded = known.encode(["좋아 좋아 좋아", "좋아", "분리수거 좋아", ""])
    batches = list(known.batches(encoded, at_most=2))
    assert [group for group, _ in batches] == [[3, 1], [0, 2]]
    assert batches[0][1].keys() == {"input_ids", "attention_mask"}
    ids, mask = batches[0][1].values()
    assert ids.tolist() == [[2, 3, 0], [2, 6, 3]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert ids.dtype == mask.dtype == np.int64


def test_tensors_include_the_ngrams(file: Path) -> None:
    spec = TokensInput(max_tokens=6, vocabulary=len(WORDS), ngrams=NgramsInput(shortest=1, longest=3, buckets=64, characters=3))
    known = TextEncoder(file, spec)
    encoded = known.encode(["좋아", "분리수거"])
    assert [text.truncated for text in encoded] == [False, True]
    [(_, tensors)] = known.batches(encoded, at_most=2)
    assert list(tensors) == ["input_ids", "attention_mask", "ngram_buckets", "ngram_counts"]
    assert tensors["ngram_counts"].sum(axis=1).tolist() == [3, 6]  # of two characters, of three


def test_no_texts_give_no_batches(file: Path) -> None:
    assert list(encoder(file).batches([], at_most=4)) == []


def test_a_tokenizer_of_another_model_is_rejected(file: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="do not belong together"):
        TextEncoder(file, TokensInput(max_tokens=6, vocabulary=30_000))


def test_a_tokenizer_without_its_special_tokens_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"좋아": 0}, unk_token="좋아")).save(str(file))
    with pytest.raises(DamagedArtifactError, match=r"no token \[PAD\]"):
        TextEncoder(file, TokensInput(max_tokens=6, vocabulary=1))


def test_a_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="is not a valid tokenizer"):
        TextEncoder(tmp_path / "tokenizer.json", TokensInput(max_tokens=6, vocabulary=1))
