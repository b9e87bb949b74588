"""ONNX Runtime: the engine of the data plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from bunriwiki.artifacts.manifest import DamagedArtifactError
from runners.engines import Array


class OnnxEngine:
    """Runs an `.onnx` file on the CPU.

    Its threads sleep between two forward passes instead of spinning, because gateway and runners share the cores.
    Raises DamagedArtifactError for a file that is no model.
    """

    def __init__(self, file: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        try:
            self._session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise DamagedArtifactError(f"{file} cannot be loaded: {error}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))
