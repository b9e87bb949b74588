from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.artifacts.suppression import nms
from runners.engines.torch import NAMES, TorchEngine

pytestmark = pytest.mark.slow  # torch


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, -x


class Suppress(torch.nn.Module):
    def forward(self, boxes: torch.Tensor, scores: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
        return nms(boxes, scores, 5, iou, torch.zeros(1))


def exported(module: torch.nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], file: Path) -> Path:
    program = torch.export.export(module, tuple(inputs.values()), strict=False)
    names = {"inputs": list(inputs), "outputs": outputs}
    torch.export.save(program, file, extra_files={NAMES: json.dumps(names)})
    return file


def test_named_arrays_in_named_arrays_out(tmp_path: Path) -> None:
    file = exported(Twice(), {"x": torch.ones(1, 2)}, ["twice", "minus"], tmp_path / "model.pt2")
    answer = TorchEngine(file, threads=1).run({"x": np.array([[1, 2]], dtype=np.float32)})
    assert {name: array.tolist() for name, array in answer.items()} == {"twice": [[2, 4]], "minus": [[-1, -2]]}


def test_a_program_with_suppression_in_it(tmp_path: Path) -> None:
    inputs = {
        "boxes": torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 5]]]),
        "scores": torch.tensor([[[0.5, 0.9]]]),
        "iou": torch.tensor([0.5]),
    }
    engine = TorchEngine(exported(Suppress(), inputs, ["kept"], tmp_path / "model.pt2"), threads=1)
    answer = engine.run({name: tensor.numpy() for name, tensor in inputs.items()})
    assert answer["kept"].tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_a_file_that_is_no_program_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.pt2"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match="cannot be loaded"):
        TorchEngine(file, threads=1)
