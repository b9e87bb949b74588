"""Compile a Hugging Face BERT classifier into a version that the data plane serves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from artifacts.answers import DECIMALS
from artifacts.golden import GoldenText, write_golden
from artifacts.manifest import DamagedArtifactError, Label, Manifest, TokensInput, describe_files
from artifacts.reference import copy_reference
from artifacts.text import TextEncoder
from model_sync.importing.ngrams import Ensemble, read_ngrams
from model_sync.importing.onnx_files import forget_origin, store_in_half

KOREAN = {"none": "혐오 아님", "offensive": "공격적", "hate": "혐오"}


class Classifier(torch.nn.Module):
    """`input_ids` and `attention_mask` [batch, tokens] in, `scores` [batch, classes] out: probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.network(input_ids=input_ids, attention_mask=attention_mask).logits.softmax(dim=1)


def compile_kcbert(
    folder: Path, output: Path, *, version: str, source: str, golden: Sequence[str], reference: Path | None = None
) -> Manifest:
    """Compile the Hugging Face folder (safetensors, `config.json`, `tokenizer.json`) into the folder `output`.

    With `ngrams.safetensors` in it the version is an ensemble (`model_sync.importing.ngrams`). The comments `golden` are
    stored with the original's scores; the reference set in the folder `reference` is taken over. Raises
    DamagedArtifactError when tokenizer and embedding table do not belong together.
    """
    if not (folder / "tokenizer.json").is_file():
        raise DamagedArtifactError(f"{folder} has no tokenizer.json: without it every text would look the same")
    network = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").float().eval()
    config = network.config
    linear = read_ngrams(folder)
    spec = TokensInput(
        max_tokens=config.max_position_embeddings,
        vocabulary=network.get_input_embeddings().weight.shape[0],
        ngrams=linear[0] if linear else None,
    )
    names = [config.id2label[index] for index in range(config.num_labels)]
    output.mkdir(parents=True)
    tokenizer = shutil.copyfile(folder / "tokenizer.json", output / "tokenizer.json")
    classifier = (Ensemble(network, linear[1]) if linear else Classifier(network)).eval()
    encoder = TextEncoder(tokenizer, spec)
    write_golden(output, _golden(classifier, encoder, names, golden))

    if reference:
        copy_reference(reference, output)
    onnx.save(export_classifier(classifier, encoder), output / "model.onnx")
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


def export_classifier(classifier: torch.nn.Module, encoder: TextEncoder) -> onnx.ModelProto:
    """`classifier` as a graph that takes any batch of what `encoder` gives; its weights are stored in half precision."""
    texts = ["분리배출은 이렇게", "잘 봤습니다"]
    [(_, tensors)] = encoder.batches(encoder.encode(texts), at_most=len(texts))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.onnx.export(
            classifier,
            tuple(torch.from_numpy(tensor) for tensor in tensors.values()),
            input_names=list(tensors),
            output_names=["scores"],
            dynamic_shapes=(free,) * len(tensors),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    return store_in_half(forget_origin(program.model_proto))


def _golden(classifier: torch.nn.Module, encoder: TextEncoder, names: list[str], texts: Sequence[str]) -> list[GoldenText]:
    samples = []
    for text in texts:
        [(_, tensors)] = encoder.batches(encoder.encode([text]), at_most=1)
        with torch.no_grad():
            scores = classifier(*(torch.from_numpy(tensor) for tensor in tensors.values()))[0]
        details = {name: round(float(score), DECIMALS) for name, score in zip(names, scores, strict=True)}
        samples.append(GoldenText(text=text, details=details))
    return samples
