"""The calls of the protocol, for both its REST and its gRPC form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers.dataplane import DataPlane
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.statistics import Statistics
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.protocols.inference.models import MODEL_TENSORS, ModelTensors
from bunriwiki.protocols.inference.tensors import Parameter, Tensor, TensorSpec
from bunriwiki.web import problems

NAME = "bunriwiki"
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
TICKETS = "feedback_tickets"  # the parameter of a response with a ticket per element, separated by commas
PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch_export", "pyfunc": "mlflow_pyfunc"}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request. Empty `version`: any version may answer; empty `outputs`: the client wants all.

    `id` is the client's own and returned to it; `request_id` is the id by which the service knows the request.
    """

    model: str
    inputs: Sequence[Tensor]
    version: str = ""
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class InferResponse:
    """The response, with the version that answered."""

    model: str
    version: str
    id: str
    outputs: Sequence[Tensor]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The versions of a model in memory, the serving version first, and the tensors of one of them."""

    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version in the repository. Its state is READY, LOADING or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str


class OpenInference:
    """Answers the calls of the protocol from `dataplane`, whose models `tensors` describes. All methods raise RequestError."""

    def __init__(
        self,
        dataplane: DataPlane,
        generation_watcher: GenerationWatcher,
        sidecar: Sidecar,
        tensors: Iterable[ModelTensors[Any, Any]] = MODEL_TENSORS,
        feedback: Feedback | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._feedback = feedback or Feedback()
        self._tensors = {model.spec.name: model for model in tensors}
        self._generation_watcher = generation_watcher
        self._sidecar = sidecar

    async def server_ready(self) -> bool:
        """Whether every model is ready."""
        return not await self._dataplane.unready()

    async def model_ready(self, model: str, version: str = "") -> bool:
        """Whether a model, or a version of it, answers now."""
        ready = await self._dataplane.model(model).ready() and not self._dataplane.draining
        if not version:
            return ready
        return ready and version in await self._in_memory(model)

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The metadata of a model, by `version` if given, else by the serving version."""
        serving = self._dataplane.model(model).version()
        others = sorted(await self._in_memory(model) - {serving})
        if version and version not in (serving, *others):
            raise problems.not_found(f"{model} has no version {version[:70]!r} in memory.")
        try:
            manifest = await asyncio.to_thread(_manifest, self._generation_watcher.folder(model, version or serving))
        except DamagedArtifactError:
            raise problems.unavailable(f"The store does not have {model}:{version or serving} now.") from None
        tensors = self._tensors[model]
        return ModelMetadata(
            name=model,
            versions=[serving, *others],
            platform=PLATFORMS[manifest.engine],
            inputs=[tensors.input],
            outputs=tensors.outputs(len(manifest.labels)),
        )

    async def infer(
        self, request: InferRequest, seconds: float | None = None, timing: RequestTiming | None = None
    ) -> InferResponse:
        """Answer a request whose client still waits for `seconds`, and which `timing` counts."""
        model = self._dataplane.model(request.model)
        tensors = self._tensors[request.model]
        inputs = tensors.read_request(request.inputs, request.parameters)
        served = await model.infer(inputs, request.version or None, _patience(request.parameters, seconds), timing)
        outputs = _chosen(tensors.write([answered.answer for answered in served]), request.outputs)
        tickets = self._feedback.tickets(inputs, served, request.request_id)
        parameters = {TICKETS: ",".join(tickets)} if tickets else {}
        return InferResponse(request.model, served[0].version, request.id, outputs, parameters)

    async def index(self, *, ready_only: bool) -> list[IndexEntry]:
        """Every version of every model that is published or in memory."""
        found = []
        for state in (await self._dataplane.models()).models:
            loaded = [(version, how) for worker in state.workers if worker.here for version, how in worker.loaded.items()]
            published = await asyncio.to_thread(self._generation_watcher.published, state.name)
            for version in sorted({*published, *dict(loaded), state.serving_version}):
                entry = _entry(state.name, version, {how for other, how in loaded if other == version})
                if entry.state == "READY" or not ready_only:
                    found.append(entry)
        return found

    def statistics(self, model: str = "", version: str = "") -> list[tuple[str, str, Statistics]]:
        """Name, version and statistics of one model or of all, by version."""
        found = []
        for name in [model] if model else self._tensors:
            known = self._dataplane.model(name)
            known.statistics.of(known.version())  # so that the serving version is among them
            found += [(name, key, counts) for key, counts in known.statistics.all().items() if version in ("", key)]
        if not found:
            raise problems.not_found(f"{model} has no statistics of version {version[:70]!r}.")
        return found

    async def load(self, model: str, authorization: str | None) -> None:
        """Sync a model with its registry, so that the newest version serves. Requires an admin token."""
        await self._sidecar.load(authorization, self._dataplane.model(model).spec.name)

    async def unload(self, model: str, authorization: str | None) -> None:
        """Always raises RequestError: every model serves at all times."""
        await self._sidecar.unload(authorization, self._dataplane.model(model).spec.name)

    async def _in_memory(self, model: str) -> set[str]:
        """The versions that a request may name and that a worker of this service has in memory."""
        found = next(status for status in (await self._dataplane.models()).models if status.name == model)
        workers = [worker.loaded for worker in found.workers if worker.here]
        available = {version for loaded in workers for version, state in loaded.items() if state == "available"}
        return available & self._dataplane.model(model).loaded()


def _entry(name: str, version: str, states: set[str]) -> IndexEntry:
    if "available" in states:
        return IndexEntry(name, version, "READY", "")
    state = "LOADING" if "loading" in states else "UNAVAILABLE"
    return IndexEntry(name, version, state, "not in memory")


def _patience(parameters: Mapping[str, Parameter], seconds: float | None) -> float | None:
    """The seconds that a client still waits: by its deadline, and by the parameter `timeout` (microseconds), as in Triton."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return seconds
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout <= 0:
        raise problems.broken("The parameter 'timeout' must be a number of microseconds.")
    return min(timeout / 1e6, float("inf") if seconds is None else seconds)


def _chosen(outputs: Sequence[Tensor], names: Sequence[str]) -> Sequence[Tensor]:
    if not names:
        return outputs
    known = {tensor.name: tensor for tensor in outputs}
    for name in names:
        if name not in known:
            raise problems.broken(f"There is no output {name[:70]!r}. The outputs are {', '.join(known)}.")
    return [known[name] for name in names]


@lru_cache(maxsize=64)
def _manifest(folder: Path) -> Manifest:
    return Manifest.read(folder)
