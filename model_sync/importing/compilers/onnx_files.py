"""ONNX files: read other people's, and give ours the last touch: half-precision weights, and nothing of whoever made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_sync.errors import RejectedError

MIN_ELEMENTS = 1024  # smaller tensors are not worth a node


def read_graph(file: Path) -> onnx.ModelProto:
    """The model in `file`, with weights that lie in files beside it. Raises RejectedError."""
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except Exception as error:  # onnx and protobuf have many kinds, with no common base
        raise RejectedError(f"{file.name} is no ONNX model (is it whole?): {error}") from error
    return model


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of a tensor's dimensions; None where they are free."""
    return [one.dim_value if one.HasField("dim_value") else None for one in value.type.tensor_type.shape.dim]


def forget_origin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out, in place, what the exporter notes for debugging: stack traces with the paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
    return model


def store_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Halve the file of `model`, in place: large float32 initializers become float16 behind a Cast.

    ONNX Runtime folds the Casts away when it loads the model, so a forward pass costs what it did before. Rounding a
    weight to half precision moves it by at most 0.05 %; a weight that half precision cannot hold is left as it is.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_ELEMENTS:
            continue
        weights = numpy_helper.to_array(tensor)
        if np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    return model
