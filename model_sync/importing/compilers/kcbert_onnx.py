"""Take a BERT classifier that was exported to ONNX: give its graph the inputs and the output that the data plane knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_sync.errors import RejectedError
from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (first: transformers needs what it declares)

# isort: split

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from transformers import AutoConfig

from bunriwiki.artifacts.manifest import Manifest, TokensInput
from bunriwiki.artifacts.text import Tensors, TextEncoder
from model_sync.importing.compilers.kcbert import class_names, longest, record_golden, write_classifier
from model_sync.importing.compilers.onnx_files import forget_origin, read_graph, shape_of, store_in_half
from model_sync.importing.compilers.phases import Phase, unreported
from model_sync.importing.compilers.tokenizer_files import write_tokenizer

TAKEN = ("input_ids", "attention_mask")
SEGMENTS = "token_type_ids"
WHOLE = 1e-3  # by how much the sum of a text's scores may miss 1


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
    """Make a version in the folder `output` of the ONNX export `file`, its `config.json` and the tokenizer in a folder.

    The comments `golden` are stored with the export's scores. Raises DamagedArtifactError and RejectedError.
    """
    output.mkdir(parents=True)
    tokens = write_tokenizer(tokenizer, output)
    with phase("load"):
        said = AutoConfig.from_pretrained(config, local_files_only=True, trust_remote_code=False)
        names = class_names(said)
        model = read_graph(file)
        _check(file.name, model)
        spec = TokensInput(max_tokens=longest(said), vocabulary=_rows(model) or said.vocab_size)
        encoder = TextEncoder(tokens, spec)
        served = forget_origin(_adapted(model))
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(served.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def score(tensors: Tensors) -> Sequence[float]:
        scores: list[float] = session.run(["scores"], dict(tensors))[0][0].tolist()
        if len(scores) != len(names) or abs(sum(scores) - 1) > WHOLE:
            raise RejectedError(f"{file.name} gives {scores} for the classes {', '.join(names)}: a share of 1 each is meant")
        return scores

    with phase("record"):
        record_golden(score, encoder, names, golden, output)
    with phase("compile"):
        return write_classifier(store_in_half(served), output, spec, names, version=version, source=source)


def _check(name: str, model: onnx.ModelProto) -> None:
    inputs = {one.name: one for one in model.graph.input}
    if not set(TAKEN) <= inputs.keys() <= {*TAKEN, SEGMENTS}:
        raise RejectedError(
            f"{name} takes {', '.join(inputs)}: {' and '.join(TAKEN)} are meant, and {SEGMENTS} where it has them"
        )
    if any(one.type.tensor_type.elem_type != TensorProto.INT64 for one in inputs.values()):
        raise RejectedError(f"{name} has inputs that are no int64")
    if any(size is not None for one in inputs.values() for size in shape_of(one)):
        raise RejectedError(
            f"{name} takes texts of one length or number only: export it with dynamic axes for batch and tokens"
        )
    output = model.graph.output[0]
    if output.name not in {"logits", "scores"} or output.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise RejectedError(f"{name} gives {output.name} first: float32 logits or scores are meant")


def _rows(model: onnx.ModelProto) -> int | None:
    """How many rows the embedding table has; None where it cannot be told."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    looked_up = (node.input[0] for node in model.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    return next((tables[name] for name in looked_up if name in tables), None)


def _adapted(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, changed in place: takes input ids and mask, gives `scores`."""
    graph = model.graph
    given = [one for one in graph.input if one.name in TAKEN]
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
