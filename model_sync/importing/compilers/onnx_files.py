"""ONNX files: reads third-party graphs; removes debug information from ours, and stores their weights in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_sync.errors import RejectedError

MIN_ELEMENTS = 1024  # for a smaller tensor the additional node costs more than it saves


def read_graph(file: Path) -> onnx.ModelProto:
    """The model in `file`, with weights that are stored in separate files. Raises RejectedError."""
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except Exception as error:  # onnx and protobuf raise many types without a common base
        raise RejectedError(f"{file.name} is not an ONNX model (is the file complete?): {error}") from error
    return model


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of a tensor's dimensions; None for dynamic ones."""
    return [size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim]


def remove_debug_info(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove in place what the exporter stores for debugging: stack traces with the paths of the exporting machine."""
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
    """Halve the size of `model` in place: large float32 initializers become float16 initializers with a Cast node each.

    ONNX Runtime folds the Cast nodes when it loads the model, so a forward pass takes as long as before. Rounding to half
    precision changes a weight by at most 0.05 %; a tensor with a weight beyond the range of half precision is not changed.
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
