"""The engines that run a forward pass on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from bunriwiki.artifacts.manifest import Manifest

Array = npt.NDArray[Any]


class Engine(Protocol):
    """Named arrays in, named arrays out; the first dimension of each is the batch. Safe to call from many threads."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...


def open_engine(folder: Path, manifest: Manifest, threads: int) -> Engine:
    """The engine that `manifest` names, opened on its entry in `folder`, with `threads` threads per forward pass."""
    entry = folder / manifest.entry
    # Imported here, so that a runner loads the library of its own engine only.
    if manifest.engine == "onnx":
        from runners.engines.onnx import OnnxEngine

        return OnnxEngine(entry, threads)
    if manifest.engine == "torch":
        from runners.engines.torch import TorchEngine

        return TorchEngine(entry, threads)
    from runners.engines.pyfunc import PyfuncEngine

    return PyfuncEngine(entry)
