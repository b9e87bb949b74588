"""torch: the reference engine, for a model that could not be compiled and for GPUs. Needs the group *serve-torch*."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

import bunriwiki.artifacts.suppression  # noqa: F401  (registers the operator that a detector's program calls)
from bunriwiki.artifacts.manifest import DamagedArtifactError
from runners.engines import Array

NAMES = "names.json"  # in the program's archive: its "inputs" and "outputs", in order


class TorchEngine:
    """Runs an exported program (`torch.export`, a `.pt2` file) on the first GPU, or on the CPU where there is none.

    A `.pt2` holds a graph and tensors, no pickled code. Raises DamagedArtifactError for a file that is no program.
    """

    def __init__(self, file: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        extra = {NAMES: ""}
        try:
            program = torch.export.load(file, extra_files=extra)
            names: dict[str, list[str]] = json.loads(extra[NAMES])
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            raise DamagedArtifactError(f"{file} cannot be loaded: {error}") from error
        self._inputs, self._outputs = names["inputs"], names["outputs"]
        self._module = program.module().to(self._device)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(inputs[name]).to(self._device) for name in self._inputs]
        with torch.inference_mode():
            answer = self._module(*tensors)
        outputs = answer if isinstance(answer, tuple) else (answer,)
        return {name: output.cpu().numpy() for name, output in zip(self._outputs, outputs, strict=True)}
