"""Comments: from text to the padded tokens that a BERT takes, and the n-grams that a linear member beside it takes."""

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
    """One text as token ids, and whether its end was cut off, for them or for the n-grams."""

    text: str
    ids: list[int]
    truncated: bool


class TextEncoder:
    """A tokenizer that is known to belong to its model.

    Raises DamagedArtifactError when it does not: transformers loads a folder without tokenizer files silently and then
    answers the same for every text, so tokenizer and embedding table are compared here, once, at load.
    """

    def __init__(self, file: Path, spec: TokensInput) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise DamagedArtifactError(f"{file} is no tokenizer: {error}") from error
        size = self._tokenizer.get_vocab_size()
        if size != spec.vocabulary:
            raise DamagedArtifactError(
                f"{file} has {size} tokens, the model's embedding table {spec.vocabulary} rows: they do not belong together"
            )
        for token in SPECIAL_TOKENS:
            if self._tokenizer.token_to_id(token) is None:
                raise DamagedArtifactError(f"{file} has no token {token}")
        self._pad = self._tokenizer.token_to_id("[PAD]")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self._ngrams = NgramCounter(spec.ngrams) if spec.ngrams else None
        self._most_characters = spec.ngrams.characters if spec.ngrams else math.inf

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Token ids of each text, [CLS] and [SEP] included."""
        return [
            Encoded(text, encoding.ids, bool(encoding.overflowing) or len(text) > self._most_characters)
            for text, encoding in zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)
        ]

    def batches(self, encoded: Sequence[Encoded], at_most: int) -> Iterator[tuple[list[int], Tensors]]:
        """Groups of at most `at_most` texts of similar length.

        Each is the texts' positions in `encoded` and the tensors of the network: `input_ids` and `attention_mask`
        [group, longest], padded, and with n-grams `ngram_buckets` and `ngram_counts` [group, most]. Sorting by length
        first spares the padding, which is worth more than int8 on short comments.
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
