"""Converts texts to the padded tokens for a BERT, and to n-grams for the linear part of an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bunriwiki.artifacts.manifest import DamagedArtifactError, TokensInput
from bunriwiki.artifacts.ngrams import NgramCounter

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

Tensors = dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text, its token ids, and whether its end was cut off, for the tokens or for the n-grams."""

    text: str
    ids: list[int]
    truncated: bool


class TextEncoder:
    """A tokenizer that was checked against its model.

    Raises DamagedArtifactError if they do not belong together. Transformers loads a folder without tokenizer files silently and
    then answers the same for every text, so the sizes of tokenizer and embedding table are compared here, once, at load.
    """

    def __init__(self, file: Path, spec: TokensInput) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise DamagedArtifactError(f"{file} is not a valid tokenizer: {error}") from error
        size = self._tokenizer.get_vocab_size()
        if size != spec.vocabulary:
            raise DamagedArtifactError(
                f"{file} has {size} tokens, the model's embedding table {spec.vocabulary} rows: they do not belong together"
            )
        special: dict[str, int] = {}
        for token in SPECIAL_TOKENS:
            number = self._tokenizer.token_to_id(token)
            if number is None:
                raise DamagedArtifactError(f"{file} has no token {token}")
            special[token] = number
        self._pad, self._unknown = special["[PAD]"], special["[UNK]"]
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self._ngrams = NgramCounter(spec.ngrams) if spec.ngrams else None
        self._max_characters = spec.ngrams.characters if spec.ngrams else math.inf

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The token ids of each text, including [CLS] and [SEP]."""
        return [
            Encoded(text, encoding.ids, bool(encoding.overflowing) or len(text) > self._max_characters)
            for text, encoding in zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)
        ]

    def unknown_share(self, encoded: Encoded) -> float:
        """The share of the text's tokens that the vocabulary lacks, 0..1."""
        return encoded.ids.count(self._unknown) / max(1, len(encoded.ids) - 2)  # without [CLS] and [SEP]

    def batches(self, encoded: Sequence[Encoded], at_most: int) -> Iterator[tuple[list[int], Tensors]]:
        """Yield groups of at most `at_most` texts of similar length.

        A group is the positions of its texts in `encoded`, and the input tensors of the network: `input_ids` and
        `attention_mask` [group, longest], padded, and with n-grams `ngram_buckets` and `ngram_counts` [group, n-grams].
        Sorting by length saves padding, which gains more than int8 on short comments.
        """
        order = sorted(range(len(encoded)), key=lambda position: len(encoded[position].ids))
        for start in range(0, len(order), at_most):
            group = order[start : start + at_most]
            longest = len(encoded[group[-1]].ids)
            ids = np.full((len(group), longest), self._pad, dtype=np.int64)
            mask = np.zeros((len(group), longest), dtype=np.int64)
            for row, position in enumerate(group):
                length = len(encoded[position].ids)
                ids[row, :length] = encoded[position].ids
                mask[row, :length] = 1
            tensors: Tensors = {"input_ids": ids, "attention_mask": mask}
            if self._ngrams:
                buckets, counts = self._ngrams.count([encoded[position].text for position in group])
                tensors |= {"ngram_buckets": buckets, "ngram_counts": counts}
            yield group, tensors
