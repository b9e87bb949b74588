"""Open Inference over REST: tensors in JSON, or raw after the JSON (the binary tensor data extension)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bunriwiki import __version__
from bunriwiki.protocols.handlers.statistics import Duration, Statistics
from bunriwiki.protocols.inference.handlers import EXTENSIONS, NAME, InferRequest, InferResponse, OpenInference
from bunriwiki.protocols.inference.tensors import (
    MAX_DIMENSIONS,
    MAX_INPUTS,
    Tensor,
    TensorSpec,
    elements,
    split_bytes,
    to_raw,
)
from bunriwiki.protocols.rest.parsing import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Endpoint, Route
from bunriwiki.web import problems

JSON_LENGTH = "Inference-Header-Content-Length"  # of the JSON, in bytes, where raw tensors follow it
MAX_BODY_BYTES = MAX_IMAGE_BYTES + MAX_TEXT_BYTES
MAX_JSON_BYTES = {"yolo": 4 * 2**20}  # photos in base64
MAX_TEXT_JSON_BYTES = 2**20

Shape = list[int]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")  # the protocol requires it


class InputTensor(_Lenient):
    """A tensor of a request: `data`, or `binary_data_size` bytes after the JSON."""

    name: str
    datatype: str
    shape: Shape = Field(max_length=MAX_DIMENSIONS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None


class OutputChoice(_Lenient):
    """An output that the client wants, in JSON or raw (`binary_data`)."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferBody(_Lenient):
    """The JSON of an infer request."""

    id: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputTensor] = Field(max_length=MAX_INPUTS)
    outputs: list[OutputChoice] = Field(default_factory=list, max_length=MAX_INPUTS)


MODEL = r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?"


class OpenInferenceRoutes:
    """The endpoints below `/v2`. All of them raise RequestError."""

    def __init__(self, handlers: OpenInference) -> None:
        self._handlers = handlers

    def routes(self) -> list[Route]:
        def route(method: Literal["GET", "POST"], path: str, endpoint: Endpoint, pattern: str | None = None) -> Route:
            return Route(method, path, endpoint, MAX_BODY_BYTES, pattern)

        return [
            route("POST", "/v2/models/{model}/infer", self._infer, MODEL + "/infer"),
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
        model = request.path_params["model"]
        if (coding := request.headers.get("content-encoding", "identity")) != "identity":
            raise problems.unsupported(f"The body is encoded as {coding[:20]!r}. Send it without an encoding.")
        content, raw = _split(request, MAX_JSON_BYTES.get(model, MAX_TEXT_JSON_BYTES))
        body = _parse(InferBody, content)
        call = InferRequest(
            model=model,
            version=request.path_params.get("version", ""),
            id=body.id,
            inputs=_tensors(body.inputs, raw),
            parameters={name: value for name, value in body.parameters.items() if name != "binary_data_output"},
            outputs=[output.name for output in body.outputs],
            request_id=request.request_id,
        )
        if any("classification" in output.parameters for output in body.outputs):
            raise problems.broken("The output parameter 'classification' is unknown. The class is in the output `label`.")
        answer = await self._handlers.infer(call)
        all_raw = body.parameters.get("binary_data_output") is True
        chosen = {output.name: output.parameters.get("binary_data", all_raw) is True for output in body.outputs}
        return _answer(answer, [chosen.get(tensor.name, all_raw) for tensor in answer.outputs])

    async def _index(self, request: Request) -> Response:
        wanted = _parse(_IndexBody, request.body) if request.body.strip() else _IndexBody()
        found = await self._handlers.index(ready_only=wanted.ready)
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


class _IndexBody(_Lenient):
    ready: bool = False


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, ensure_ascii=False).encode(), status)


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _split(request: Request, max_json_bytes: int) -> tuple[bytes, memoryview]:
    """The JSON of a body, and the raw tensors after it."""
    stated = request.headers.get(JSON_LENGTH)
    size = length = len(request.body)
    if stated is not None:
        if not re.fullmatch(r"[0-9]{1,10}", stated) or int(stated) > size:
            raise problems.broken(f"{JSON_LENGTH} is {stated[:20]!r}, the body has {size} bytes.")
        length = int(stated)
    if length > max_json_bytes:
        raise problems.too_large(
            f"The JSON has {length} bytes; at most {max_json_bytes} are accepted. Send the data raw, after the JSON."
        )
    return request.body[:length], memoryview(request.body)[length:]


def _parse(kind: type[Any], text: bytes) -> Any:
    try:
        return kind.model_validate(pydantic_core.from_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise problems.broken(f"The field {place!r} is wrong: {first['msg']}.") from None
    except ValueError as error:
        raise problems.broken(f"The body is not valid JSON: {str(error)[:200]}.") from None


def _tensors(inputs: Sequence[InputTensor], raw: memoryview) -> list[Tensor]:
    found = []
    start = 0
    for tensor in inputs:
        count = elements(tensor.name, tensor.shape)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            data = _from_json(tensor, count)
        else:
            left = len(raw) - start
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= left:
                raise problems.broken(
                    f"binary_data_size of input {tensor.name[:40]!r} is {str(size)[:20]}; {left} bytes are left after the JSON."
                )
            data = split_bytes(tensor.name, raw[start : start + size], count) if tensor.datatype == "BYTES" else []
            start += size
        found.append(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), data))
    if start != len(raw):
        raise problems.broken(f"{len(raw) - start} bytes after the JSON belong to no input.")
    return found


def _from_json(tensor: InputTensor, count: int) -> list[bytes]:
    name = tensor.name[:40]
    if tensor.data is None:
        raise problems.broken(f"Input {name!r} has no data.")
    flat: list[Any] = []
    for item in tensor.data:
        flat.extend(item if isinstance(item, list) else [item])
    if len(flat) != count:
        raise problems.broken(f"Input {name!r} has {len(flat)} elements, but a shape of {count}.")
    if not all(isinstance(item, str) for item in flat):
        raise problems.broken(f"The data of input {name!r} must be strings.")
    if tensor.parameters.get("content_type") != "base64":
        return [item.encode("utf-8", "surrogatepass") for item in flat]
    try:
        return [base64.b64decode(item, validate=True) for item in flat]
    except (binascii.Error, ValueError):
        raise problems.broken(f"The data of input {name!r} is not valid base64, which its content_type declares.") from None


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
