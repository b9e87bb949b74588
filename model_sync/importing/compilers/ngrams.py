"""An ensemble of a BERT and a linear member: logistic regression on hashed character n-grams.

The linear member is the file `ngrams.safetensors` in the network's folder: `idf` [buckets], `coef` [buckets, classes], `bias`
[classes], `bert_temperature`, `ngrams_temperature`, `shares` [2] (the network's first) and `temperature`. The metadata entry
`input` describes how n-grams are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bunriwiki.artifacts.manifest import NgramsInput

NGRAMS = "ngrams.safetensors"


def write_ngrams(folder: Path, spec: NgramsInput, arrays: Mapping[str, Tensor]) -> None:
    """Write the linear member to the Hugging Face folder `folder`."""
    save_file(dict(arrays), folder / NGRAMS, metadata={"input": spec.model_dump_json()})


def read_ngrams(folder: Path) -> tuple[NgramsInput, dict[str, Tensor]] | None:
    """The linear member in `folder`; None if there is none."""
    if not (folder / NGRAMS).is_file():
        return None
    with safe_open(folder / NGRAMS, framework="pt") as stored:
        spec = NgramsInput.model_validate_json(stored.metadata()["input"])
        return spec, {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)


class Ensemble(torch.nn.Module):
    """The soft vote of a BERT and the linear member, as one graph.

    Takes `input_ids` and `attention_mask` [batch, tokens], `ngram_buckets` and `ngram_counts` [batch, n-grams]; gives `scores`
    [batch, classes]. The logits of each member are divided by its temperature; the probabilities are averaged with the weights
    `shares`, and the average is scaled with `temperature`. The input of the linear member is sublinear TF-IDF of length 1.
    """

    def __init__(self, network: torch.nn.Module, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        for name, tensor in arrays.items():
            self.register_buffer(name, tensor.float())

    def forward(self, input_ids: Tensor, attention_mask: Tensor, ngram_buckets: Tensor, ngram_counts: Tensor) -> Tensor:
        logits = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        bert = (logits / self.bert_temperature).softmax(dim=1)
        ngrams = (self._linear(ngram_buckets, ngram_counts) / self.ngrams_temperature).softmax(dim=1)
        average = self.shares[0] * bert + self.shares[1] * ngrams
        return ((average + 1e-9).log() / self.temperature).softmax(dim=1)

    def _linear(self, buckets: Tensor, counts: Tensor) -> Tensor:
        sublinear = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0)
        values = sublinear * self.idf[buckets]
        length = values.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        return (values[:, :, None] * self.coef[buckets]).sum(dim=1) / length + self.bias
