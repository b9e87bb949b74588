"""Compile a Hugging Face BERT classifier into a version that the data plane serves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from artifacts.answers import DECIMALS
from artifacts.golden import GoldenText, write_golden
from artifacts.manifest import DamagedArtifactError, Label, Manifest, TokensInput, describe_files
from artifacts.text import TextEncoder
from model_sync.importing.onnx_files import forget_origin, store_in_half

KOREAN = {"none": "혐오 아님", "offensive": "공격적", "hate": "혐오"}


class Classifier(torch.nn.Module):
    """`input_ids` and `attention_mask` [batch, tokens] in, `scores` [batch, classes] out: probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.network(input_ids=input_ids, attention_mask=attention_mask).logits.softmax(dim=1)


def compile_kcbert(folder: Path, output: Path, *, version: str, source: str, golden: Sequence[str]) -> Manifest:
    """Compile the Hugging Face folder (safetensors, `config.json`, `tokenizer.json`) into the folder `output`.

    The comments `golden` are stored with the original's scores. Raises DamagedArtifactError when tokenizer and embedding
    table do not belong together.
    """
    if not (folder / "tokenizer.json").is_file():
        raise DamagedArtifactError(f"{folder} has no tokenizer.json: without it every text would look the same")
    network = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").float().eval()
    config = network.config
    spec = TokensInput(max_tokens=config.max_position_embeddings, vocabulary=network.get_input_embeddings().weight.shape[0])
    names = [config.id2label[index] for index in range(config.num_labels)]
    output.mkdir(parents=True)
    tokenizer = shutil.copyfile(folder / "tokenizer.json", output / "tokenizer.json")
    classifier = Classifier(network).eval()
    write_golden(output, _golden(classifier, TextEncoder(tokenizer, spec), names, golden))

    onnx.save(store_in_half(forget_origin(_export(classifier).model_proto)), output / "model.onnx")
    manifest = Manifest(
        model="kcbert",
        version=version,
        engine="onnx",
        entry="model.onnx",
        input=spec,
        labels=tuple(Label(name=name, ko=KOREAN.get(name, name)) for name in names),
        source=source,
        license="AGPL-3.0-or-later",
        files=describe_files(output),
    )
    manifest.write(output)
    return manifest


def _golden(classifier: Classifier, encoder: TextEncoder, names: list[str], texts: Sequence[str]) -> list[GoldenText]:
    samples = []
    for text in texts:
        ids = torch.tensor([encoder.encode([text])[0].ids])
        with torch.no_grad():
            scores = classifier(ids, torch.ones_like(ids))[0]
        details = {name: round(float(score), DECIMALS) for name, score in zip(names, scores, strict=True)}
        samples.append(GoldenText(text=text, details=details))
    return samples


def _export(classifier: Classifier) -> Any:
    example = (torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        return torch.onnx.export(
            classifier,
            example,
            input_names=["input_ids", "attention_mask"],
            output_names=["scores"],
            dynamic_shapes=(free, free),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
