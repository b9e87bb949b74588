"""The protocol's calls, as both doors know them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.manifest import MODELS, DamagedArtifactError, Manifest
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.dataplane import DataPlane
from bunriwiki.protocols.handlers.statistics import Statistics
from bunriwiki.protocols.inference.models import Signature, read_inputs, signature, write_outputs
from bunriwiki.protocols.inference.tensors import Tensor

NAME = "bunriwiki"
VERSION = "0.1.0"  # of pyproject.toml, which is not in a Bento; a test compares
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch_export", "pyfunc": "mlflow_pyfunc"}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A call: `version` and `outputs` are empty where the client leaves them to the server."""

    model: str
    inputs: Sequence[Tensor]
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class InferResponse:
    """Its answer: `version` is the one that answered."""

    model: str
    version: str
    id: str
    outputs: Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model is: its versions in memory, the one that serves first."""

    name: str
    versions: Sequence[str]
    platform: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version in the repository: READY, LOADING or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str


class OpenInference:
    """Answers the calls of the protocol from the data plane. Every method raises RequestError."""

    def __init__(self, dataplane: DataPlane, generation_watcher: GenerationWatcher, sidecar: Sidecar) -> None:
        self._dataplane = dataplane
        self._generation_watcher = generation_watcher
        self._sidecar = sidecar

    async def server_ready(self) -> bool:
        """Whether every model is ready."""
        return not await self._dataplane.unready()

    async def model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model, or this version of it, answers now."""
        ready = await self._dataplane.model(model).ready() and not self._dataplane.draining
        if not version:
            return ready
        return ready and version in await self._in_memory(model)

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """What a model takes and gives."""
        serving = self._dataplane.model(model).version()
        others = sorted(await self._in_memory(model) - {serving})
        if version and version not in (serving, *others):
            raise errors.not_found(f"{model} has no version {version[:70]!r} in memory.")
        try:
            manifest = await asyncio.to_thread(_manifest, self._generation_watcher.folder(model, version or serving))
        except DamagedArtifactError:
            raise errors.unavailable(f"The store does not have {model}:{version or serving} now.") from None
        known = signature(model, len(manifest.labels))
        return ModelMetadata(model, [serving, *others], PLATFORMS[manifest.engine], known)

    async def infer(self, request: InferRequest, seconds: float | None = None) -> InferResponse:
        """Answer a call, whose client waits for so many `seconds` yet."""
        self._dataplane.model(request.model)
        inputs: Any = read_inputs(request.model, request.inputs, request.parameters)
        version = request.version or None
        ask: Any = {
            "yolo": self._dataplane.detect,
            "kcbert": self._dataplane.classify_comment,
            "sentiment": self._dataplane.classify_sentiment,
        }[request.model]
        served = await ask(*inputs, version=version, seconds=_patience(request.parameters, seconds))
        outputs = write_outputs([one.answer for one in served])
        return InferResponse(request.model, served[0].version, request.id, _chosen(outputs, request.outputs))

    async def index(self, *, ready_only: bool) -> list[IndexEntry]:
        """Every version of every model that is published or in memory."""
        found = []
        for state in (await self._dataplane.models()).models:
            ways = [(version, how) for worker in state.workers if worker.here for version, how in worker.loaded.items()]
            published = await asyncio.to_thread(self._generation_watcher.published, state.name)
            for version in sorted({*published, *dict(ways), state.serving}):
                entry = _entry(state.name, version, {how for other, how in ways if other == version})
                if entry.state == "READY" or not ready_only:
                    found.append(entry)
        return found

    def statistics(self, model: str = "", version: str = "") -> list[tuple[str, str, Statistics]]:
        """Name, version and statistics of one model or of all, by version."""
        found = []
        for name in [model] if model else MODELS:
            one = self._dataplane.model(name)
            one.statistics.of(one.version())
            found += [(name, key, stats) for key, stats in one.statistics.all().items() if version in ("", key)]
        if not found:
            raise errors.not_found(f"{model} has no statistics of version {version[:70]!r}.")
        return found

    async def load(self, model: str, authorization: str | None) -> None:
        """Have the newest version serve, for who has a token. Raises RequestError."""
        await self._sidecar.load(authorization, self._dataplane.model(model).name)

    async def unload(self, model: str, authorization: str | None) -> None:
        """Raises RequestError: every model serves at all times."""
        await self._sidecar.unload(authorization, self._dataplane.model(model).name)

    async def _in_memory(self, model: str) -> set[str]:
        """The versions that a worker of this service has in memory and that may be named."""
        state = next(one for one in (await self._dataplane.models()).models if one.name == model)
        workers = [worker.loaded for worker in state.workers if worker.here]
        there = {version for loaded in workers for version, how in loaded.items() if how == "available"}
        return there & self._dataplane.model(model).loaded()


def _entry(name: str, version: str, ways: set[str]) -> IndexEntry:
    if "available" in ways:
        return IndexEntry(name, version, "READY", "")
    state = "LOADING" if "loading" in ways else "UNAVAILABLE"
    return IndexEntry(name, version, state, "not in memory")


def _patience(parameters: Mapping[str, Any], seconds: float | None) -> float | None:
    """What a client has left, in seconds: by its deadline, and by the parameter `timeout` (microseconds), as Triton has it."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return seconds
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise errors.broken("The parameter 'timeout' must be a number of microseconds.")
    return min(timeout / 1e6, float("inf") if seconds is None else seconds)


def _chosen(outputs: Sequence[Tensor], names: Sequence[str]) -> Sequence[Tensor]:
    if not names:
        return outputs
    known = {tensor.name: tensor for tensor in outputs}
    for name in names:
        if name not in known:
            raise errors.broken(f"There is no output {name[:70]!r}. There are {', '.join(known)}.")
    return [known[name] for name in names]


@lru_cache(maxsize=64)
def _manifest(folder: Path) -> Manifest:
    return Manifest.read(folder)
