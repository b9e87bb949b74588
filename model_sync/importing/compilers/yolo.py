"""Compiles an ultralytics detector into a version that the data plane can serve."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before ultralytics, which needs the operators that it declares)

# isort: split

import onnx
import torch
from onnxscript import opset18 as op
from torch import Tensor
from ultralytics.utils.nms import TorchNMS
from ultralytics.utils.ops import xywh2xyxy

from bunriwiki.artifacts.answers import DECIMALS, Detection
from bunriwiki.artifacts.golden import GoldenPhoto, write_golden
from bunriwiki.artifacts.image import decode
from bunriwiki.artifacts.manifest import DetectionOutput, ImageInput, Label, Manifest, describe_files
from bunriwiki.artifacts.reference import copy_reference
from bunriwiki.artifacts.suppression import nms
from model_sync.importing.compilers.checkpoints import load_detector
from model_sync.importing.compilers.onnx_files import remove_debug_info, store_in_half
from model_sync.importing.compilers.phases import Phase, unreported

KOREAN = {
    "cardboard": "골판지",
    "glass": "유리",
    "metal": "금속",
    "paper": "종이",
    "plastic": "플라스틱",
    "trash": "일반쓰레기",
}
MAX_BOXES = 300  # per photo
OPSET = 18
STEP, MAX_SIZE = 32, 4096  # pixels: the side of a square is a multiple of the one, and smaller than the other
GOLDEN_CONFIDENCE = 0.25
GOLDEN_IOU = 0.5


class Detector(torch.nn.Module):
    """The network followed by non-maximum suppression, as one graph.

    Takes `images` [batch, 3, size, size], `iou` [1] and `confidence` [1]; gives `boxes` [kept, 4] (x1, y1, x2, y2 in the
    square), `scores` [kept], `classes` [kept], `images_index` [kept], the index of a box's photo in the batch, and
    `class_scores` [kept, classes], the scores of all classes, of which `scores` has the highest. As in ultralytics, each anchor
    counts for its best class only. Suppression is across classes (`agnostic_nms` there): two boxes around the same bottle,
    glass and plastic, would not help a user to sort it.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, iou: Tensor, confidence: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(images)
        centres, sides = raw[:, :2].transpose(1, 2), raw[:, 2:4].transpose(1, 2)
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=2)
        scores, classes = raw[:, 4:].max(dim=1)
        kept = nms(boxes, scores[:, None], MAX_BOXES, iou, confidence)
        image, box = kept[:, 0], kept[:, 2]
        return boxes[image, box], scores[image, box], classes[image, box], image, raw[:, 4:].transpose(1, 2)[image, box]


def compile_yolo(
    weights: Path,
    output: Path,
    *,
    version: str,
    source: str,
    golden: Sequence[Path],
    size: int | None = None,
    uncertain_below: float | None = None,
    architecture: Path | None = None,
    reference: Path | None = None,
    phase: Phase = unreported,
) -> Manifest:
    """Compile `weights`, a checkpoint of ultralytics or a state dict with its YAML `architecture`, into the folder `output`.

    `size` is the side of the square in pixels; None is the size that the detector was trained with. `uncertain_below` is stated
    in the manifest (`DetectionOutput`). The photos `golden` are stored with the original's detections; the reference set in the
    folder `reference` is copied. Weights are stored in half precision and used in single precision. Raises RejectedError.
    """
    with phase("load"):
        detector = load_detector(weights, architecture)
    network, names, size = detector.network, detector.names, size or detector.size
    output.mkdir(parents=True)
    with phase("record"):
        network.to(memory_format=torch.channels_last)  # 20 % faster on a CPU
        record_golden(lambda squares: network(squares)[0], names, size, golden, output)
        network.to(memory_format=torch.contiguous_format)

    if reference:
        copy_reference(reference, output)
    with phase("compile"):
        return write_detector(
            remove_debug_info(export_detector(network, size)),
            output,
            names,
            size,
            version=version,
            source=source,
            uncertain_below=uncertain_below,
        )


def write_detector(
    model: onnx.ModelProto,
    output: Path,
    names: list[str],
    size: int,
    *,
    version: str,
    source: str,
    uncertain_below: float | None,
) -> Manifest:
    """Write the graph `model`, which includes suppression, and the manifest to the folder `output`.

    The manifest lists every file in the folder.
    """
    onnx.save(store_in_half(model), output / "model.onnx")
    manifest = Manifest(
        model="yolo",
        version=version,
        engine="onnx",
        entry="model.onnx",
        input=ImageInput(size=size),
        output=None if uncertain_below is None else DetectionOutput(uncertain_below=uncertain_below),
        labels=tuple(Label(name=name, ko=KOREAN.get(name, name)) for name in names),
        source=source,
        license="AGPL-3.0-or-later",
        files=describe_files(output),
    )
    manifest.write(output)
    return manifest


def export_detector(network: Any, size: int) -> onnx.ModelProto:
    """The graph of the network, for squares of any size that is a multiple of STEP; of `size` if torch cannot trace others.

    It gives at most MAX_BOXES per photo. On a CPU, a graph for any size is as fast as one for a single size. The network is
    changed for the export: use it no more.
    """
    network = network.fuse(verbose=False)
    for module in network.modules():
        if hasattr(module, "export") and hasattr(module, "dynamic"):  # ultralytics' heads: output raw predictions
            module.export, module.format, module.dynamic = True, "onnx", True

    def suppress(boxes: Any, scores: Any, max_boxes: int, iou: Any, confidence: Any) -> Any:
        return op.NonMaxSuppression(boxes, scores, op.Constant(value_ints=[max_boxes]), iou, confidence)

    def export(sides: Mapping[int, Any]) -> onnx.ModelProto:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)  # height and width share one
            program = torch.onnx.export(
                Detector(network).eval(),
                example,
                input_names=["images", "iou", "confidence"],
                output_names=["boxes", "scores", "classes", "images_index", "class_scores"],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC, **sides}, None, None),
                custom_translation_table={torch.ops.bunriwiki.nms.default: suppress},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        return program.model_proto

    example = (torch.rand(2, 3, size, size), torch.tensor([GOLDEN_IOU]), torch.tensor([GOLDEN_CONFIDENCE]))
    side = STEP * torch.export.Dim("side", min=1, max=MAX_SIZE // STEP)
    try:
        return export({2: side, 3: side})
    except torch.onnx.OnnxExporterError:
        return export({})


def record_golden(
    network: Callable[[Tensor], Tensor], names: list[str], size: int, photos: Sequence[Path], output: Path
) -> None:
    """Store the photos in `output` as golden samples, with the detections of the original network and ultralytics' suppression.

    `network` takes squares [1, 3, size, size] and gives [1, 4 + classes, anchors]. It gets one photo at a time: on one core a
    batch takes longer than its photos one by one.
    """
    (output / "golden").mkdir()
    samples = []
    for photo in photos:
        stored = shutil.copyfile(photo, output / "golden" / photo.name)
        square, frame = decode(stored.read_bytes(), size)
        with torch.inference_mode():
            raw = network(torch.from_numpy(square[None]))[0].T
        scores, classes = raw[:, 4:].max(dim=1)
        sure = scores > GOLDEN_CONFIDENCE
        corners, scores, classes = xywh2xyxy(raw[sure, :4]), scores[sure], classes[sure]
        kept = TorchNMS.nms(corners, scores, GOLDEN_IOU)
        boxes = frame.to_pixels(corners[kept].numpy())
        detections = tuple(
            Detection(
                label=names[category],
                label_ko=KOREAN.get(names[category], names[category]),
                score=round(score, DECIMALS),
                box=tuple(round(edge, 1) for edge in box),
            )
            for category, score, box in zip(classes[kept].tolist(), scores[kept].tolist(), boxes.tolist(), strict=True)
        )
        samples.append(GoldenPhoto(image=f"golden/{photo.name}", confidence=GOLDEN_CONFIDENCE, detections=detections))
    write_golden(output, samples)
