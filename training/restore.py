"""A checkpoint to train on from a released detector, of which only the served form is kept.

In the served form each convolution and the normalisation after it are one. They are separated again: the mean and variance of
a convolution's output are measured on photos, and the normalisation is chosen so that both together do what the one did.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from tqdm import tqdm
from ultralytics.nn.modules import Conv

from bunriwiki.artifacts.image import decode

PREFIX = "network."  # of the weights' names: the served form is the network followed by suppression
BATCH = 16


def restore(served: Path, network: torch.nn.Module, photos: Sequence[Path], size: int) -> None:
    """Load the weights of the ONNX file `served` into `network`, a new one of the same architecture.

    The normalisations are measured on `photos`, in squares of `size` pixels. Raises KeyError if the file lacks a weight, and
    RuntimeError if a weight has another shape.
    """
    weights = read_weights(served)
    state = {name: tensor for name, tensor in network.state_dict().items() if ".bn." in name}
    network.load_state_dict(state | {name: weights[name] for name in network.state_dict() if name not in state}, strict=True)
    measured = {
        name: _Measured(module, weights[f"{name}.conv.bias"])
        for name, module in network.named_modules()
        if type(module) is Conv
    }
    network.eval()
    with torch.inference_mode():
        for start in tqdm(range(0, len(photos), BATCH), "measuring"):
            squares = [decode(photo.read_bytes(), size)[0] for photo in photos[start : start + BATCH]]
            network(torch.from_numpy(np.stack(squares)))
    for module in measured.values():
        module.finish()


def read_weights(served: Path) -> dict[str, Tensor]:
    """The weights in an ONNX file, in single precision, by the names that the network has for them."""
    found = {}
    for initializer in onnx.load(served).graph.initializer:
        name = initializer.name.removeprefix(PREFIX).removesuffix(".half")
        found[name] = torch.from_numpy(np.array(numpy_helper.to_array(initializer), dtype=np.float32))
    return found


class _Measured:
    """A convolution that for now adds `bias` in place of its normalisation, and measures its own output."""

    def __init__(self, module: Conv, bias: Tensor) -> None:
        self._module = module
        self._bias = bias
        self._count = 0
        self._sum = torch.zeros_like(bias, dtype=torch.float64)
        self._squares = torch.zeros_like(bias, dtype=torch.float64)
        module.forward = self._forward

    def _forward(self, inputs: Tensor) -> Any:
        output = self._module.conv(inputs)
        self._count += output.numel() // output.shape[1]
        self._sum += output.sum(dim=(0, 2, 3), dtype=torch.float64)
        self._squares += output.double().square().sum(dim=(0, 2, 3))
        return self._module.act(output + self._bias[:, None, None])

    def finish(self) -> None:
        """Set the normalisation, and let the convolution be followed by it again."""
        mean = self._sum / self._count
        variance = self._squares / self._count - mean.square()
        norm = self._module.bn
        with torch.no_grad():
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean + self._bias)
        del self._module.forward
