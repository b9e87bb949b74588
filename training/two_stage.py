"""A detector in two stages, as one graph: one network finds boxes, another looks at each of them from near.

The first stage is a detector (`training.context`) that sees the photo at half the size of the graph's square. Of its boxes the
CANDIDATES surest are cut from the square as they are and go to the second stage, a classifier (`training.materials`). If a
smaller square is served, they are fewer, as its area is smaller: most of a photo's time goes into them.
Suppression is by the first stage's scores, as in a detector with one stage. Then the opinions of both are pooled:

- what a box shows: the weighted geometric mean of both stages' shares of the classes (a logarithmic opinion pool; Genest and
  Zidek 1986);
- that it shows something: the weighted geometric mean of the first stage's highest score, and of the second stage's probability
  that the crop is not empty;
- the score of a class is the product of both, calibrated (`training.calibration`).

The graph has the inputs and outputs of a detector with one stage (`model_sync.importing.compilers.yolo`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.artifacts.reference import copy_reference
from model_sync.importing.compilers.checkpoints import load_detector
from model_sync.importing.compilers.onnx_files import remove_debug_info
from model_sync.importing.compilers.yolo import OPSET, export_detector, record_golden, write_detector
from training import efficientnet
from training.calibration import MIN, answers, fit
from training.candidates import CANDIDATES, SURE, candidates
from training.efficientnet import SIZE, EfficientNet
from training.helpfulness import surest
from training.judge_photos import corners
from training.materials import GREY, MARGIN, SAMPLES
from training.photos import CLASSES, LabelledPhoto

log = logging.getLogger("training.two_stage")

SECOND_ON_CLASS = 0.8  # the weight of the second stage in what a box shows
SECOND_ON_BOX = 0.6  # and in that it shows something
TINY = 1e-6  # scores are this far from 0 and 1, where they have no logit
FIRST, SECOND = "first_", "second_"  # prefixes of names in the graph
MOST = "most"  # the name of the number of candidates


@dataclass(frozen=True)
class Calibration:
    """What the logits of pooled scores are multiplied by, and what is added (Platt scaling)."""

    scale: float = 1.0
    shift: float = 0.0


class TwoStage(torch.nn.Module):
    """Both stages in torch: what the graph is compared to.

    Takes a square [1, 3, size, size], RGB in 0..1, and gives [1, 4 + classes, boxes], x, y of the centre, width, height in the
    square and the scores, as an ultralytics detector does, but of the boxes that are left after suppression.
    """

    def __init__(self, first: torch.nn.Module, second: EfficientNet, calibration: Calibration | None = None) -> None:
        super().__init__()
        self.first = first.eval()
        self.second = second.eval()
        self.calibration = calibration or Calibration()

    def forward(self, square: Tensor) -> tuple[Tensor]:
        boxes, scores = candidates(self.first, square)
        crops = torch.cat([_crop(square, box) for box in boxes]) if len(boxes) else square.new_empty((0, 3, SIZE, SIZE))
        logits = torch.logit(_pool(scores, self.second(crops).softmax(dim=1)), TINY)
        calibrated = (logits * self.calibration.scale + self.calibration.shift).sigmoid()
        return (torch.cat([boxes, calibrated], dim=1).T[None],)


def _pool(first: Tensor, second: Tensor) -> Tensor:
    """Scores [n, classes] of scores in the first stage [n, classes] and probabilities in the second [n, classes + 1]."""
    classes = second[:, : len(CLASSES)]
    shown = (first ** (1 - SECOND_ON_CLASS)) * classes**SECOND_ON_CLASS
    something = first.amax(dim=1, keepdim=True) ** (1 - SECOND_ON_BOX) * classes.sum(dim=1, keepdim=True) ** SECOND_ON_BOX
    return shown / shown.sum(dim=1, keepdim=True) * something


def compile_two_stages(
    weights: Path,
    second: Path,
    output: Path,
    *,
    version: str,
    source: str,
    size: int,
    calibrated_on: Sequence[LabelledPhoto],
    golden: Sequence[Path],
    uncertain_below: float | None = None,
    reference: Path | None = None,
) -> Manifest:
    """Compile the detector `weights` and the classifier `second` (`best.pt` of `training.materials`) into the folder `output`.

    `size` is the side of the square in pixels; the first stage sees half of it. It is calibrated on the photos `calibrated_on`,
    which neither stage was trained on. The rest is as for `compile_yolo`.
    """
    detector = load_detector(weights)
    classifier = EfficientNet(len(CLASSES) + 1)
    classifier.load_state_dict(torch.load(second, weights_only=True))
    network = TwoStage(detector.network, classifier)
    found = answers(network, calibrated_on, size)
    network.calibration = Calibration(*fit(*surest(found, [corners(photo) for photo in calibrated_on], MIN)))
    log.info("%s", network.calibration)
    output.mkdir(parents=True)
    record_golden(lambda squares: network(squares)[0], detector.names, size, golden, output)
    if reference:
        copy_reference(reference, output)
    return write_detector(
        export(network, size),
        output,
        detector.names,
        size,
        version=version,
        source=source,
        uncertain_below=uncertain_below,
    )


def _crop(square: Tensor, box: Tensor) -> Tensor:
    """The part of the `square` around the `box`, [1, 3, SIZE, SIZE], as RoiAlign cuts it: grey a pixel beyond the edge."""
    side, points, size = MARGIN * box[2:].max(), SIZE * SAMPLES, square.shape[-1]
    steps = ((torch.arange(points) + 0.5) / points - 0.5) * side
    x, y = torch.meshgrid(box[0] + steps, box[1] + steps, indexing="xy")
    grid = torch.stack([x, y], dim=-1)
    inside = ((grid >= -0.5) & (grid <= size + 0.5)).all(dim=-1)
    light = functional.grid_sample(square - GREY / 255, grid[None] * 2 / size - 1, padding_mode="border", align_corners=False)
    return functional.avg_pool2d(light * inside, SAMPLES) + GREY / 255


def _before(size: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : {OPSET}]>
before (float[batch, 3, side, side] images, float[1] iou) => (float[batch, 3, half, half] {FIRST}images, float[1] {FIRST}iou,
    float[1] {FIRST}confidence, int64[1] {MOST})
<
    float[1] sure = {{{SURE}}}, int64[1] at_least = {{1}}, int64[1] at_full_size = {{{CANDIDATES}}},
    int64[1] whole = {{{size**2}}}
>
{{
    {FIRST}images = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (images)
    {FIRST}iou = Identity (iou)
    {FIRST}confidence = Identity (sure)
    width = Shape <start = 3> (images)
    area = Mul (width, width)
    times = Mul (area, at_full_size)
    share = Div (times, whole)
    {MOST} = Max (share, at_least)
}}
"""


BETWEEN = f"""
<ir_version: 8, opset_import: ["" : {OPSET}]>
between (float[batch, 3, side, side] images, float[n, 4] {FIRST}boxes, int64[n] {FIRST}images_index)
    => (float[n, 4] found, float[n, 3, {SIZE}, {SIZE}] {SECOND}crops)
<
    int64[1] begin = {{0}}, int64[1] middle = {{2}}, int64[1] end = {{4}}, int64[1] along = {{1}},
    float two = {{2.0}}, float half = {{0.5}}, float reach = {{{MARGIN / 2}}}, float grey = {{{GREY / 255}}}
>
{{
    found = Mul ({FIRST}boxes, two)
    upper = Slice (found, begin, middle, along)
    lower = Slice (found, middle, end, along)
    sum = Add (upper, lower)
    centre = Mul (sum, half)
    sides = Sub (lower, upper)
    longer = ReduceMax <keepdims = 1> (sides, along)
    away = Mul (longer, reach)
    from = Sub (centre, away)
    to = Add (centre, away)
    squares = Concat <axis = 1> (from, to)
    light = Sub (images, grey)
    cut = RoiAlign <coordinate_transformation_mode = "half_pixel", mode = "avg", output_height = {SIZE}, output_width = {SIZE},
        sampling_ratio = {SAMPLES}, spatial_scale = 1.0> (light, squares, {FIRST}images_index)
    {SECOND}crops = Add (cut, grey)
}}
"""


def _after(calibration: Calibration) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : {OPSET}]>
after (float[n, 4] found, float[n, names] {FIRST}class_scores, int64[n] {FIRST}images_index,
    float[n, materials] {SECOND}answer, float[1] confidence)
    => (float[kept, 4] boxes, float[kept] scores, int64[kept] classes, int64[kept] images_index,
        float[kept, names] class_scores)
<
    int64[1] start = {{0}}, int64[1] names = {{{len(CLASSES)}}}, int64[1] axis = {{1}},
    float first_on_class = {{{1 - SECOND_ON_CLASS}}}, float second_on_class = {{{SECOND_ON_CLASS}}},
    float first_on_box = {{{1 - SECOND_ON_BOX}}}, float second_on_box = {{{SECOND_ON_BOX}}},
    float lowest = {{{TINY}}}, float highest = {{{1 - TINY}}}, float one = {{1.0}},
    float scale = {{{calibration.scale}}}, float shift = {{{calibration.shift}}}
>
{{
    probabilities = Softmax <axis = 1> ({SECOND}answer)
    likely = Slice (probabilities, start, names, axis)
    first_shown = Pow ({FIRST}class_scores, first_on_class)
    second_shown = Pow (likely, second_on_class)
    shown = Mul (first_shown, second_shown)
    all_shown = ReduceSum (shown, axis)
    shares = Div (shown, all_shown)
    highest_score = ReduceMax ({FIRST}class_scores, axis)
    not_empty = ReduceSum (likely, axis)
    first_something = Pow (highest_score, first_on_box)
    second_something = Pow (not_empty, second_on_box)
    something = Mul (first_something, second_something)
    pooled = Mul (shares, something)
    possible = Clip (pooled, lowest, highest)
    others = Sub (one, possible)
    odds = Div (possible, others)
    logits = Log (odds)
    scaled = Mul (logits, scale)
    shifted = Add (scaled, shift)
    calibrated = Sigmoid (shifted)
    best = ReduceMax <keepdims = 0> (calibrated, axis)
    likeliest = ArgMax <axis = 1, keepdims = 0> (calibrated)
    served = Greater (best, confidence)
    boxes = Compress <axis = 0> (found, served)
    scores = Compress <axis = 0> (best, served)
    classes = Compress <axis = 0> (likeliest, served)
    images_index = Compress <axis = 0> ({FIRST}images_index, served)
    class_scores = Compress <axis = 0> (calibrated, served)
}}
"""


def export(network: TwoStage, size: int) -> onnx.ModelProto:
    """The graph of `network`, for squares of `size` pixels or any smaller multiple of 64. Use the network no more.

    In a square with a part of the area, as large a part of the CANDIDATES is looked at, rounded down, and at least one.
    """
    first = remove_debug_info(export_detector(network.first, size // 2))
    first = onnx.compose.add_prefix(
        first, FIRST, rename_nodes=False, rename_edges=False, rename_initializers=False, rename_value_infos=False
    )
    [suppression] = [node for node in first.graph.node if node.op_type == "NonMaxSuppression"]
    [constant] = [tensor for tensor in first.graph.initializer if tensor.name == suppression.input[2]]
    first.graph.initializer.remove(constant)
    suppression.input[2] = MOST
    second = onnx.compose.add_prefix(efficientnet.export(network.second), SECOND)
    before, between, after = (onnx.parser.parse_model(text) for text in (_before(size), BETWEEN, _after(network.calibration)))
    parts = [model.graph for model in (before, first, between, second, after)]
    graph = onnx.helper.make_graph(
        [node for part in parts for node in part.node],
        "two_stages",
        [*before.graph.input, after.graph.input[-1]],
        list(after.graph.output),
        [tensor for part in parts for tensor in part.initializer],
    )
    model = onnx.helper.make_model(
        graph,
        ir_version=first.ir_version,
        opset_imports=first.opset_import,
        functions=[*first.functions, *second.functions],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
