"""Imports a BERT classifier that was exported to ONNX: adapts its graph to the inputs and the output of the data plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_sync.errors import RejectedError
from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before transformers, which needs the operators that it declares)

# isort: split

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from transformers import AutoConfig

from bunriwiki.artifacts.manifest import Manifest, TokensInput
from bunriwiki.artifacts.text import Tensors, TextEncoder
from model_sync.importing.compilers.kcbert import class_names, max_tokens, record_golden, write_classifier
from model_sync.importing.compilers.onnx_files import read_graph, remove_debug_info, shape_of, store_in_half
from model_sync.importing.compilers.phases import Phase, unreported
from model_sync.importing.compilers.tokenizer_files import write_tokenizer

INPUTS = ("input_ids", "attention_mask")
SEGMENTS = "token_type_ids"
SUM_TOLERANCE = 1e-3  # by which the sum of a text's scores may differ from 1


def compile_kcbert_onnx(
    file: Path,
    output: Path,
    *,
    config: Path,
    tokenizer: Path,
    version: str,
    source: str,
    golden: Sequence[str],
    phase: Phase = unreported,
) -> Manifest:
    """Make a version in the folder `output` from the ONNX export `file`, its `config.json`, and the folder of its tokenizer.

    The comments `golden` are stored with the export's scores. Raises DamagedArtifactError and RejectedError.
    """
    output.mkdir(parents=True)
    tokens = write_tokenizer(tokenizer, output)
    with phase("load"):
        settings = AutoConfig.from_pretrained(config, local_files_only=True, trust_remote_code=False)
        names = class_names(settings)
        model = read_graph(file)
        _check(file.name, model)
        spec = TokensInput(max_tokens=max_tokens(settings), vocabulary=_rows(model) or settings.vocab_size)
        encoder = TextEncoder(tokens, spec)
        adapted = remove_debug_info(_adapt(model))
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(adapted.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def score(tensors: Tensors) -> Sequence[float]:
        scores: list[float] = session.run(["scores"], dict(tensors))[0][0].tolist()
        if len(scores) != len(names) or abs(sum(scores) - 1) > SUM_TOLERANCE:
            raise RejectedError(f"{file.name} gives {scores} for the classes {', '.join(names)}: probabilities are required")
        return scores

    with phase("record"):
        record_golden(score, encoder, names, golden, output)
    with phase("compile"):
        return write_classifier(store_in_half(adapted), output, spec, names, version=version, source=source)


def _check(name: str, model: onnx.ModelProto) -> None:
    inputs = {value.name: value for value in model.graph.input}
    if not set(INPUTS) <= inputs.keys() <= {*INPUTS, SEGMENTS}:
        raise RejectedError(f"{name} takes {', '.join(inputs)}: {' and '.join(INPUTS)} are required, and {SEGMENTS} is allowed")
    if any(value.type.tensor_type.elem_type != TensorProto.INT64 for value in inputs.values()):
        raise RejectedError(f"{name} has inputs that are not int64")
    if any(size is not None for value in inputs.values() for size in shape_of(value)):
        raise RejectedError(f"{name} has a fixed batch size or text length: export it with dynamic axes for batch and tokens")
    output = model.graph.output[0]
    if output.name not in {"logits", "scores"} or output.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise RejectedError(f"{name} gives {output.name} first: float32 logits or scores are required")


def _rows(model: onnx.ModelProto) -> int | None:
    """The number of rows of the embedding table; None if the table cannot be identified."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    looked_up = (node.input[0] for node in model.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    return next((tables[name] for name in looked_up if name in tables), None)


def _adapt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change `model` in place so that it takes INPUTS only and gives `scores`."""
    graph = model.graph
    given = [value for value in graph.input if value.name in INPUTS]
    if len(given) < len(graph.input):
        zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
        graph.node.insert(0, helper.make_node("Shape", ["input_ids"], [f"{SEGMENTS}/shape"]))
        graph.node.insert(1, helper.make_node("ConstantOfShape", [f"{SEGMENTS}/shape"], [SEGMENTS], value=zero))
        del graph.input[:]
        graph.input.extend(given)
    output = graph.output[0]
    if output.name == "logits":
        graph.node.append(helper.make_node("Softmax", ["logits"], ["scores"], axis=-1))
    shape = [None, shape_of(output)[-1]]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape))
    return model
