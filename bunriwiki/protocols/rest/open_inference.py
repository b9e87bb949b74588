"""Open Inference over REST: tensors in JSON, or raw after the JSON (the binary tensor data extension)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from bunriwiki import __version__
from bunriwiki.protocols.handlers.statistics import Duration, Statistics
from bunriwiki.protocols.inference.handlers import EXTENSIONS, NAME, InferResponse, OpenInference
from bunriwiki.protocols.inference.tensors import Tensor, TensorSpec, to_raw
from bunriwiki.protocols.rest.infer_body import JSON_LENGTH, MAX_BODY_BYTES, read_infer_request
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Endpoint, Route
from bunriwiki.web import problems
from bunriwiki.web.bodies import MAX_COMMAND_BYTES

MODEL = r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?"


class OpenInferenceRoutes:
    """The endpoints below `/v2`. All of them raise RequestError."""

    def __init__(self, handlers: OpenInference) -> None:
        self._handlers = handlers

    def routes(self) -> list[Route]:
        def route(method: Literal["GET", "POST"], path: str, endpoint: Endpoint, pattern: str | None = None) -> Route:
            return Route(method, path, endpoint, MAX_COMMAND_BYTES, pattern)

        return [
            Route("POST", "/v2/models/{model}/infer", self._infer, MAX_BODY_BYTES, MODEL + "/infer"),
            route("GET", "/v2", self._server, "/v2/?"),
            route("GET", "/v2/health/live", self._live),
            route("GET", "/v2/health/ready", self._ready),
            route("GET", "/v2/models/stats", self._statistics),
            route("GET", "/v2/models/{model}", self._metadata, MODEL),
            route("GET", "/v2/models/{model}/ready", self._model_ready, MODEL + "/ready"),
            route("GET", "/v2/models/{model}/stats", self._statistics, MODEL + "/stats"),
            route("POST", "/v2/repository/index", self._index),
            route("POST", "/v2/repository/models/{model}/load", self._load),
            route("POST", "/v2/repository/models/{model}/unload", self._unload),
        ]

    async def _server(self, _: Request) -> Response:
        return _json({"name": NAME, "version": __version__, "extensions": EXTENSIONS})

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = await self._handlers.server_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, request: Request) -> Response:
        ready = await self._handlers.model_ready(request.path_params["model"], request.path_params.get("version", ""))
        return _json({"name": request.path_params["model"], "ready": ready}, 200 if ready else 503)

    async def _metadata(self, request: Request) -> Response:
        found = await self._handlers.model_metadata(request.path_params["model"], request.path_params.get("version", ""))
        return _json(
            {
                "name": found.name,
                "versions": found.versions,
                "platform": found.platform,
                "inputs": [_spec(spec) for spec in found.inputs],
                "outputs": [_spec(spec) for spec in found.outputs],
            }
        )

    async def _infer(self, request: Request) -> Response:
        call, raw = read_infer_request(request)
        answer = await self._handlers.infer(call, timing=request.timing)
        return _answer(answer, [raw.wants(tensor.name) for tensor in answer.outputs])

    async def _index(self, request: Request) -> Response:
        found = await self._handlers.index(ready_only=_read_index(request.body).ready)
        return _json(
            [{"name": entry.name, "version": entry.version, "state": entry.state, "reason": entry.reason} for entry in found]
        )

    async def _load(self, request: Request) -> Response:
        await self._handlers.load(request.path_params["model"], request.headers.get("authorization"))
        return _json({})

    async def _unload(self, request: Request) -> Response:
        await self._handlers.unload(request.path_params["model"], request.headers.get("authorization"))
        return _json({})

    async def _statistics(self, request: Request) -> Response:
        found = self._handlers.statistics(request.path_params.get("model", ""), request.path_params.get("version", ""))
        return _json({"model_stats": [_stats(*stats) for stats in found]})


class _IndexBody(msgspec.Struct):
    """Unknown fields are skipped, as the protocol requires."""

    ready: bool = False


INDEX_BODY = msgspec.json.Decoder(_IndexBody)


def _read_index(body: bytes) -> _IndexBody:
    if not body.strip():
        return _IndexBody()
    try:
        return INDEX_BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problems.broken(f"The body is not valid: {str(error)[:200]}.") from None


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, ensure_ascii=False).encode(), status)


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _answer(answer: InferResponse, raw: Sequence[bool]) -> Response:
    """The response; `raw` says for each output whether it follows the JSON instead of being in it."""
    outputs, raw_outputs = [], []
    for tensor, is_raw in zip(answer.outputs, raw, strict=True):
        described: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters: dict[str, Any] = dict(tensor.parameters)
        if is_raw:
            raw_outputs.append(to_raw(tensor))
            parameters["binary_data_size"] = len(raw_outputs[-1])
        else:
            described["data"] = _to_json(tensor)
        outputs.append({**described, **({"parameters": parameters} if parameters else {})})
    content: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        content["id"] = answer.id
    if answer.parameters:
        content["parameters"] = dict(answer.parameters)
    content["outputs"] = outputs
    response = _json(content)
    response.headers.update({"X-Model-Name": answer.model, "X-Model-Version": answer.version})
    if raw_outputs:
        response.media_type = "application/octet-stream"
        response.headers[JSON_LENGTH] = str(len(response.body))
        response.body += b"".join(raw_outputs)
    return response


def _to_json(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.data, np.ndarray):
        numbers: list[Any] = tensor.data.tolist()
        return numbers
    return [item.decode() for item in tensor.data]


def _stats(name: str, version: str, statistics: Statistics) -> dict[str, Any]:
    nothing = Duration(statistics.success.count)
    return {
        "name": name,
        "version": version,
        "last_inference": statistics.last_ms,
        "inference_count": statistics.inferences,
        "execution_count": statistics.infer.count,
        "inference_stats": {
            key: {"count": duration.count, "ns": duration.ns}
            for key, duration in (
                ("success", statistics.success), ("fail", statistics.fail), ("queue", nothing),
                ("compute_input", nothing), ("compute_infer", statistics.infer), ("compute_output", nothing),
            )
        },
        "batch_stats": [],
    }  # fmt: skip
