"""Compiles a Hugging Face BERT classifier into a version that the data plane can serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from model_sync.errors import RejectedError
from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before transformers, which needs the operators that it declares)

# isort: split

import onnx
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from bunriwiki.artifacts.answers import DECIMALS
from bunriwiki.artifacts.golden import GoldenText, write_golden
from bunriwiki.artifacts.manifest import Label, Manifest, TokensInput, describe_files
from bunriwiki.artifacts.reference import copy_reference
from bunriwiki.artifacts.text import Tensors, TextEncoder
from model_sync.importing.compilers.ngrams import Ensemble, read_ngrams
from model_sync.importing.compilers.onnx_files import remove_debug_info, store_in_half
from model_sync.importing.compilers.phases import Phase, unreported
from model_sync.importing.compilers.tokenizer_files import write_tokenizer

KOREAN = {"none": "혐오 아님", "offensive": "공격적", "hate": "혐오"}


class Classifier(torch.nn.Module):
    """The classifier as a graph: `input_ids` and `attention_mask` [batch, tokens] in, probabilities [batch, classes] out."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.network(input_ids=input_ids, attention_mask=attention_mask).logits.softmax(dim=1)


def compile_kcbert(
    folder: Path,
    output: Path,
    *,
    version: str,
    source: str,
    golden: Sequence[str],
    tokenizer: Path | None = None,
    reference: Path | None = None,
    phase: Phase = unreported,
) -> Manifest:
    """Compile the Hugging Face folder (`config.json`, weights, `tokenizer.json` or `vocab.txt`) into the folder `output`.

    `tokenizer` is the folder of the tokenizer if that is another folder. If `folder` contains `ngrams.safetensors`, the version
    is an ensemble (`model_sync.importing.compilers.ngrams`). The comments `golden` are stored with the original's scores; the
    reference set in the folder `reference` is copied. Raises DamagedArtifactError if the tokenizer does not match the embedding
    table, RejectedError if the weights are not those of such a classifier.
    """
    output.mkdir(parents=True)
    file = write_tokenizer(tokenizer or folder, output)
    with phase("load"):
        network = _load(folder)
        config = network.config
        linear = read_ngrams(folder)
        spec = TokensInput(
            max_tokens=max_tokens(config),
            vocabulary=network.get_input_embeddings().weight.shape[0],
            ngrams=linear[0] if linear else None,
        )
        names = class_names(config)
        classifier = (Ensemble(network, linear[1]) if linear else Classifier(network)).eval()
        encoder = TextEncoder(file, spec)

    def score(tensors: Tensors) -> Sequence[float]:
        with torch.inference_mode():
            return classifier(*(torch.from_numpy(tensor) for tensor in tensors.values()))[0].tolist()

    with phase("record"):
        record_golden(score, encoder, names, golden, output)
    if reference:
        copy_reference(reference, output)
    with phase("compile"):
        return write_classifier(export_classifier(classifier, encoder), output, spec, names, version=version, source=source)


def max_tokens(config: PretrainedConfig) -> int:
    """The maximum number of tokens of an input."""
    # RoBERTa and its relatives count positions from the padding token's id on.
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return config.max_position_embeddings - offset


def class_names(config: PretrainedConfig) -> list[str]:
    """The names of the classes. Raises RejectedError if they are not mutually exclusive."""
    if config.problem_type == "multi_label_classification" or config.num_labels < 2:
        raise RejectedError(
            f"its problem type is {config.problem_type} with {config.num_labels} label(s): at least two mutually exclusive "
            "classes are required"
        )
    return [config.id2label[index] for index in range(config.num_labels)]


def record_golden(
    score: Callable[[Tensors], Sequence[float]], encoder: TextEncoder, names: list[str], texts: Sequence[str], output: Path
) -> None:
    """Store the texts in `output` as golden samples; `score` returns the original's scores for a batch of one text."""
    samples = []
    for text in texts:
        [(_, tensors)] = encoder.batches(encoder.encode([text]), at_most=1)
        details = {name: round(share, DECIMALS) for name, share in zip(names, score(tensors), strict=True)}
        samples.append(GoldenText(text=text, details=details))
    write_golden(output, samples)


def write_classifier(
    model: onnx.ModelProto, output: Path, spec: TokensInput, names: list[str], *, version: str, source: str
) -> Manifest:
    """Write the graph `model` and the manifest to the folder `output`; the manifest lists every file in it."""
    onnx.save(model, output / "model.onnx")
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
    """`classifier` as a graph for batches of any size from `encoder`; its weights are stored in half precision."""
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
    return store_in_half(remove_debug_info(program.model_proto))


def _load(folder: Path) -> torch.nn.Module:
    network, report = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if report["missing_keys"]:  # transformers initializes them randomly
        missing = ", ".join(sorted(report["missing_keys"]))
        raise RejectedError(f"its weights lack {missing}: the network was not trained as a classifier")
    return network.float().eval()
