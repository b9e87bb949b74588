"""Imports a detector that ultralytics exported to ONNX: appends non-maximum suppression to its graph."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto
from torch import Tensor

from bunriwiki.artifacts.manifest import Manifest
from model_sync.errors import RejectedError
from model_sync.importing.compilers.detector_facts import class_names, square_size
from model_sync.importing.compilers.onnx_files import read_graph, remove_debug_info, shape_of
from model_sync.importing.compilers.phases import Phase, unreported
from model_sync.importing.compilers.yolo import MAX_BOXES, record_golden, write_detector

# The part of `model_sync.importing.compilers.yolo.Detector` after the network, in ONNX. Its operators have this form since
# opset 13.
MIN_OPSET = 13
SUPPRESSION = f"""
<ir_version: 8, opset_import: ["" : {MIN_OPSET}]>
suppression (float[batch, rows, anchors] raw, float[1] iou, float[1] confidence)
    => (float[kept, 4] boxes, float[kept] scores, int64[kept] classes, int64[kept] images_index,
        float[kept, names] class_scores)
<
    int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] all = {{{2**31}}},
    int64[1] max_boxes = {{{MAX_BOXES}}}, int64 first = {{0}}, int64[2] image_and_anchor = {{0, 2}}, float half = {{0.5}}
>
{{
    anchors_first = Transpose <perm = [0, 2, 1]> (raw)
    centres = Slice (anchors_first, zero, two, two)
    sides = Slice (anchors_first, two, four, two)
    reach = Mul (sides, half)
    upper = Sub (centres, reach)
    lower = Add (centres, reach)
    corners = Concat <axis = 2> (upper, lower)
    each = Slice (anchors_first, four, all, two)
    best, category = TopK <axis = 2> (each, one)
    one_class = Transpose <perm = [0, 2, 1]> (best)
    kept_at = NonMaxSuppression (corners, one_class, max_boxes, iou, confidence)
    place = Gather <axis = 1> (kept_at, image_and_anchor)
    images_index = Gather <axis = 1> (kept_at, first)
    boxes = GatherND (corners, place)
    best_there = GatherND (best, place)
    scores = Squeeze (best_there, one)
    category_there = GatherND (category, place)
    classes = Squeeze (category_there, one)
    class_scores = GatherND (each, place)
}}
"""


def compile_yolo_onnx(
    file: Path,
    output: Path,
    *,
    version: str,
    source: str,
    golden: Sequence[Path],
    uncertain_below: float | None = None,
    phase: Phase = unreported,
) -> Manifest:
    """Make a version in the folder `output` from the ONNX export `file`, which must have the metadata of ultralytics' export.

    `uncertain_below` is stated in the manifest (`DetectionOutput`). The photos `golden` are stored with the export's
    detections. Raises RejectedError.
    """
    with phase("load"):
        model = read_graph(file)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        _check(file.name, model, metadata)
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        size = square_size(_literal(metadata.get("imgsz")))
        rows = session.run(None, {"images": np.zeros((2, 3, size, size), dtype=np.float32)})[0].shape
        if len(rows) != 3 or rows[0] != 2 or rows[1] <= 4:
            raise RejectedError(f"{file.name} gives {rows} for two photos instead of (2, 4 + classes, anchors)")
        names = class_names(_literal(metadata["names"]), rows[1] - 4)
    output.mkdir(parents=True)

    def network(squares: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": squares.numpy()})[0])

    with phase("record"):
        record_golden(network, names, size, golden, output)
    with phase("compile"):
        return write_detector(
            append_suppression(remove_debug_info(model)),
            output,
            names,
            size,
            version=version,
            source=source,
            uncertain_below=uncertain_below,
        )


def append_suppression(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, which gives [batch, 4 + classes, anchors], followed by suppression."""
    raw = model.graph.output[0].name
    network = onnx.compose.add_prefix(model, "network/", rename_inputs=False)  # its names might clash with ours
    tail = onnx.parser.parse_model(SUPPRESSION)
    tail.ir_version = network.ir_version
    tail.opset_import[0].version = _opset(model)
    return onnx.compose.merge_models(network, tail, io_map=[(f"network/{raw}", "raw")])


def _check(name: str, model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    if "names" not in metadata or metadata.get("task") != "detect":
        raise RejectedError(f"{name} lacks the metadata of a detector (task and names), which ultralytics' export writes")
    if metadata.get("end2end") == "True" or "'nms': True" in metadata.get("args", ""):
        raise RejectedError(f"{name} includes suppression: export it with nms=False and end2end=False")
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    if [value.name for value in inputs] != ["images"] or len(outputs) != 1:
        raise RejectedError(f"{name} has other inputs and outputs than ultralytics' exports: one input, images, and one output")
    if any(value.type.tensor_type.elem_type != TensorProto.FLOAT for value in (*inputs, *outputs)):
        raise RejectedError(f"{name} does not compute in float32: export it with half=False")
    if shape_of(inputs[0])[0] is not None:
        raise RejectedError(f"{name} has a fixed batch size of {shape_of(inputs[0])[0]}: export it with dynamic=True")
    if _opset(model) < MIN_OPSET:
        raise RejectedError(f"{name} has opset {_opset(model)}: export it with opset={MIN_OPSET} or later")


def _opset(model: onnx.ModelProto) -> int:
    return next(operators.version for operators in model.opset_import if operators.domain in {"", "ai.onnx"})


def _literal(text: str | None) -> Any:
    """The value of a metadata entry, which ultralytics writes as a Python literal. Raises RejectedError."""
    try:
        return None if text is None else ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise RejectedError(f"its metadata is not a Python literal: {text}") from error
