"""Open Inference over REST: JSON tensors, and raw ones behind the JSON (the binary tensor extension)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.statistics import Duration, Statistics
from bunriwiki.protocols.inference.handlers import EXTENSIONS, NAME, VERSION, InferRequest, InferResponse, OpenInference
from bunriwiki.protocols.inference.tensors import (
    MAX_DIMENSIONS,
    MAX_INPUTS,
    Tensor,
    TensorSpec,
    elements,
    split_bytes,
    to_raw,
)

JSON_LENGTH = "inference-header-content-length"
MAX_JSON = {"yolo": 4 * 2**20}  # photos in base64
MAX_TEXT_JSON = 2**20
KNOWN_PATHS = 128  # paths whose route is remembered

Shape = list[int]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")  # as the protocol wants it


class InputTensor(_Lenient):
    """A tensor of a request: its data is here, or behind the JSON (`binary_data_size`)."""

    name: str
    datatype: str
    shape: Shape = Field(max_length=MAX_DIMENSIONS)
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None


class OutputChoice(_Lenient):
    """A tensor that the client wants, in JSON or raw (`binary_data`)."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferBody(_Lenient):
    """The JSON of an infer call."""

    id: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputTensor] = Field(max_length=MAX_INPUTS)
    outputs: list[OutputChoice] = Field(default_factory=list, max_length=MAX_INPUTS)


@dataclass(slots=True)
class Call:
    """A request of this protocol, with its body read."""

    path: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """What goes back: JSON, with raw tensors behind it where `json_length` says where they begin."""

    body: bytes
    status: int = 200
    json_length: int | None = None
    served: tuple[str, str] | None = None


Handler = Callable[[Call], Awaitable[Answer]]
IN_REPOSITORY = r"/v2/repository/models/(?P<model>[^/]+)"
MODEL = r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?"


class OpenInferenceRoutes:
    """The routes below `/v2`, each with the template that the metrics know it by."""

    def __init__(self, handlers: OpenInference) -> None:
        self._handlers = handlers
        self._match = lru_cache(maxsize=KNOWN_PATHS)(self._search)
        self._routes: list[tuple[str, str, re.Pattern[str], Handler]] = [
            (method, template, re.compile(pattern), handler)
            for method, template, pattern, handler in (
                ("GET", "/v2", r"/v2/?", self._server),
                ("GET", "/v2/health/live", r"/v2/health/live", self._live),
                ("GET", "/v2/health/ready", r"/v2/health/ready", self._ready),
                ("GET", "/v2/models/stats", r"/v2/models/stats", self._statistics),
                ("GET", "/v2/models/{model}", MODEL, self._metadata),
                ("GET", "/v2/models/{model}/ready", MODEL + "/ready", self._model_ready),
                ("GET", "/v2/models/{model}/stats", MODEL + "/stats", self._statistics),
                ("POST", "/v2/models/{model}/infer", MODEL + "/infer", self._infer),
                ("POST", "/v2/repository/index", r"/v2/repository/index", self._index),
                ("POST", "/v2/repository/models/{model}/load", IN_REPOSITORY + "/load", self._load),
                (
                    "POST",
                    "/v2/repository/models/{model}/unload",
                    IN_REPOSITORY + "/unload",
                    self._unload,
                ),
            )
        ]

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path is this protocol's."""
        return path == "/v2" or path.startswith("/v2/")

    def templates(self) -> list[tuple[str, str]]:
        """The methods and templates of all routes."""
        return [(method, template) for method, template, _, _ in self._routes]

    def template(self, method: str, path: str) -> str | None:
        """The template of a call's route; None where there is none."""
        found = self._match(method, path)
        return found[0] if found else None

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """The handler of a call, and the names in its path. Raises RequestError."""
        if found := self._match(method, path):
            return found[1], found[2]
        allowed = sorted({one for one, _, pattern, _ in self._routes if pattern.fullmatch(path)})
        if allowed:
            raise errors.method_not_allowed(method, ", ".join(allowed))
        raise errors.not_found(f"There is nothing at {path[:100]}. /v2 says what this server knows.")

    def _search(self, method: str, path: str) -> tuple[str, Handler, Mapping[str, str]] | None:
        wanted = "GET" if method == "HEAD" else method
        for one, template, pattern, handler in self._routes:
            if one == wanted and (found := pattern.fullmatch(path)):
                return template, handler, {name: text for name, text in found.groupdict().items() if text}
        return None

    async def _server(self, _: Call) -> Answer:
        return _json({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})

    async def _live(self, _: Call) -> Answer:
        return _json({"live": True})

    async def _ready(self, _: Call) -> Answer:
        ready = await self._handlers.server_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model_ready(self, call: Call) -> Answer:
        ready = await self._handlers.model_ready(call.path["model"], call.path.get("version", ""))
        return _json({"name": call.path["model"], "ready": ready}, 200 if ready else 503)

    async def _metadata(self, call: Call) -> Answer:
        found = await self._handlers.model_metadata(call.path["model"], call.path.get("version", ""))
        return _json(
            {
                "name": found.name,
                "versions": found.versions,
                "platform": found.platform,
                "inputs": [_spec(found.signature.takes)],
                "outputs": [_spec(spec) for spec in found.signature.gives],
            }
        )

    async def _infer(self, call: Call) -> Answer:
        model = call.path["model"]
        if (coding := call.headers.get("content-encoding", "identity")) != "identity":
            raise errors.unsupported(f"The body is encoded as {coding[:20]!r}. Send it as it is.")
        text, raw = _split(call, MAX_JSON.get(model, MAX_TEXT_JSON))
        body = _parse(InferBody, text)
        request = InferRequest(
            model=model,
            version=call.path.get("version", ""),
            id=body.id,
            inputs=_tensors(body.inputs, raw),
            parameters={name: value for name, value in body.parameters.items() if name != "binary_data_output"},
            outputs=[one.name for one in body.outputs],
        )
        if any("classification" in one.parameters for one in body.outputs):
            raise errors.broken("The output parameter 'classification' is not known here. The output `label` says the class.")
        answer = await self._handlers.infer(request)
        all_raw = body.parameters.get("binary_data_output") is True
        chosen = {one.name: one.parameters.get("binary_data", all_raw) is True for one in body.outputs}
        return _answer(answer, [chosen.get(tensor.name, all_raw) for tensor in answer.outputs])

    async def _index(self, call: Call) -> Answer:
        wanted = _parse(_IndexBody, call.body) if call.body.strip() else _IndexBody()
        found = await self._handlers.index(ready_only=wanted.ready)
        return _json([{"name": one.name, "version": one.version, "state": one.state, "reason": one.reason} for one in found])

    async def _load(self, call: Call) -> Answer:
        await self._handlers.load(call.path["model"], call.headers.get("authorization"))
        return _json({})

    async def _unload(self, call: Call) -> Answer:
        await self._handlers.unload(call.path["model"], call.headers.get("authorization"))
        return _json({})

    async def _statistics(self, call: Call) -> Answer:
        found = self._handlers.statistics(call.path.get("model", ""), call.path.get("version", ""))
        return _json({"model_stats": [_stats(name, version, one) for name, version, one in found]})


class _IndexBody(_Lenient):
    ready: bool = False


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(content, ensure_ascii=False).encode(), status)


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _split(call: Call, most: int) -> tuple[bytes, memoryview]:
    """The JSON of a body, and what comes behind it."""
    stated = call.headers.get(JSON_LENGTH)
    length = len(call.body)
    if stated is not None:
        if not re.fullmatch(r"[0-9]{1,10}", stated) or int(stated) > len(call.body):
            raise errors.broken(f"Inference-Header-Content-Length is {stated[:20]!r}, the body has {len(call.body)} bytes.")
        length = int(stated)
    if length > most:
        raise errors.too_large(f"The JSON has {length} bytes; at most {most} are accepted. Send the data raw, behind the JSON.")
    return call.body[:length], memoryview(call.body)[length:]


def _parse(kind: type[Any], text: bytes) -> Any:
    try:
        return kind.model_validate(pydantic_core.from_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        raise errors.broken(f"The field {place!r} is wrong: {first['msg']}.") from None
    except ValueError as error:
        raise errors.broken(f"The body is no JSON: {str(error)[:200]}.") from None


def _tensors(inputs: Sequence[InputTensor], raw: memoryview) -> list[Tensor]:
    found = []
    place = 0
    for one in inputs:
        count = elements(one.name, one.shape)
        size = one.parameters.get("binary_data_size")
        if size is None:
            data = _from_json(one, count)
        else:
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(raw) - place:
                raise errors.broken(
                    f"Input {one.name[:40]!r} says that {str(size)[:20]} bytes are its own; there are not so many."
                )
            data = split_bytes(one.name, raw[place : place + size], count) if one.datatype == "BYTES" else []
            place += size
        found.append(Tensor(one.name, one.datatype, tuple(one.shape), data))
    if place != len(raw):
        raise errors.broken(f"{len(raw) - place} bytes behind the JSON belong to no input.")
    return found


def _from_json(one: InputTensor, count: int) -> list[bytes]:
    if one.data is None:
        raise errors.broken(f"Input {one.name[:40]!r} has no data.")
    flat: list[Any] = []
    for item in one.data:
        flat.extend(item if isinstance(item, list) else [item])
    if len(flat) != count:
        raise errors.broken(f"Input {one.name[:40]!r} has {len(flat)} elements, its shape says {count}.")
    if not all(isinstance(item, str) for item in flat):
        raise errors.broken(f"The data of input {one.name[:40]!r} must be strings.")
    if one.parameters.get("content_type") != "base64":
        return [item.encode("utf-8", "surrogatepass") for item in flat]
    try:
        return [base64.b64decode(item, validate=True) for item in flat]
    except (binascii.Error, ValueError):
        raise errors.broken(f"The data of input {one.name[:40]!r} is no base64, which its content_type says.") from None


def _answer(answer: InferResponse, raw: Sequence[bool]) -> Answer:
    outputs, behind = [], []
    for tensor, is_raw in zip(answer.outputs, raw, strict=True):
        described: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters: dict[str, Any] = dict(tensor.parameters)
        if is_raw:
            behind.append(to_raw(tensor))
            parameters["binary_data_size"] = len(behind[-1])
        else:
            described["data"] = _to_json(tensor)
        outputs.append({**described, **({"parameters": parameters} if parameters else {})})
    content = {"model_name": answer.model, "model_version": answer.version, "id": answer.id, "outputs": outputs}
    if not answer.id:
        del content["id"]
    text = json.dumps(content, ensure_ascii=False).encode()
    length = len(text) if behind else None
    return Answer(text + b"".join(behind), json_length=length, served=(answer.model, answer.version))


def _to_json(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.data, np.ndarray):
        numbers: list[Any] = tensor.data.tolist()
        return numbers
    return [item.decode() for item in tensor.data]


def _stats(name: str, version: str, one: Statistics) -> dict[str, Any]:
    nothing = Duration(one.success.count)
    return {
        "name": name,
        "version": version,
        "last_inference": one.last_ms,
        "inference_count": one.inferences,
        "execution_count": one.infer.count,
        "inference_stats": {
            key: {"count": duration.count, "ns": duration.ns}
            for key, duration in (
                ("success", one.success), ("fail", one.fail), ("queue", nothing),
                ("compute_input", nothing), ("compute_infer", one.infer), ("compute_output", nothing),
            )
        },
        "batch_stats": [],
    }  # fmt: skip
