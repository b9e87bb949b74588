"""The body of an infer request, decoded within bounds: its JSON, and the raw tensors after it.

`msgspec` skips what is not asked for without making an object of it, and every part is asked for only when its size is known:
the elements of a tensor by its shape, all else by its length. So neither nesting nor numbers of values cost memory, and no body
that is accepted takes long (tests/bunriwiki/protocols/rest/test_cost_of_bodies.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from bunriwiki.protocols.inference.handlers import InferRequest
from bunriwiki.protocols.inference.tensors import MAX_INPUTS, Data, Parameter, Tensor, elements, split_bytes
from bunriwiki.protocols.rest.parsing import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.web import problems

JSON_LENGTH = "Inference-Header-Content-Length"  # of the JSON, in bytes, where raw tensors follow it
MAX_BODY_BYTES = MAX_IMAGE_BYTES + MAX_TEXT_BYTES
MAX_JSON_BYTES = {"yolo": 4 * 2**20}  # photos in base64
MAX_TEXT_JSON_BYTES = 2**20
MAX_PART_BYTES = 4096  # of the JSON of a part that is no data of a tensor
NUMBER_OF_INPUTS = "Expected `array` of length 1 - at `$.inputs`"  # what msgspec says of another number than one
NESTED = "The JSON is nested too deeply."
MAX_PARAMETERS = 16  # of a request, of a tensor, or of an output

KindT = TypeVar("KindT")


class _Input(msgspec.Struct):
    name: Raw
    datatype: Raw
    shape: Raw
    parameters: Raw = Raw()
    data: Raw = Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Parameter] = {}


class _Body(msgspec.Struct):
    """Unknown fields are skipped, as the protocol requires. A model of this service has one input."""

    inputs: tuple[_Input]
    id: Raw = Raw()
    parameters: Raw = Raw()
    outputs: Raw = Raw()


class _Part(Generic[KindT]):
    """Decodes a part of the JSON that has at most `MAX_PART_BYTES`; `what` names it in errors."""

    def __init__(self, what: str, kind: type[KindT], absent: KindT | None = None) -> None:
        self._what = what
        self._absent = absent
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, raw: Raw) -> KindT:
        size = memoryview(raw).nbytes
        if not size and self._absent is not None:
            return self._absent
        if size > MAX_PART_BYTES:
            raise problems.too_large(f"The field '{self._what}' has more than {MAX_PART_BYTES} bytes. Send less.")
        return _decoded(self._decoder, raw, f"The field '{self._what}'")


BODY = msgspec.json.Decoder(_Body)
ID = _Part("id", str, "")
PARAMETERS = _Part("parameters", dict[str, Parameter], {})
OUTPUTS = _Part("outputs", list[_Output], [])
NAME = _Part("inputs.0.name", str)
DATATYPE = _Part("inputs.0.datatype", str)
SHAPE = _Part("inputs.0.shape", list[int])
TENSOR_PARAMETERS = _Part("inputs.0.parameters", dict[str, Parameter], {})
TEXT = msgspec.json.Decoder(str | tuple[str])  # of shape [n, 1], each element may have its own brackets
BASE64 = msgspec.json.Decoder(bytes | tuple[bytes])


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """Which outputs the client wants raw: `chosen` by their names, and all others if `by_default`."""

    by_default: bool
    chosen: Mapping[str, bool]

    def wants(self, name: str) -> bool:
        return self.chosen.get(name, self.by_default)


def read_infer_request(request: Request) -> tuple[InferRequest, RawOutputs]:
    """The call in the body of a request, and how its outputs are wanted. Raises RequestError.

    The call has copies of what it needs, and the body is freed: it would take as much again while the request waits for its
    batch.
    """
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise problems.unsupported(f"The body is encoded as {coding[:20]!r}. Send it without an encoding.")
    model = request.path_params["model"]
    content, raw = _split(request, MAX_JSON_BYTES.get(model, MAX_TEXT_JSON_BYTES))
    body: _Body = _decoded(BODY, content, "The body")
    parameters = _parameters(PARAMETERS, body.parameters)
    all_raw = parameters.pop("binary_data_output", False) is True
    outputs = OUTPUTS.decode(body.outputs)
    if len(outputs) > MAX_INPUTS:
        raise problems.broken(f"The call names {len(outputs)} outputs; at most {MAX_INPUTS} are accepted.")
    if any("classification" in output.parameters for output in outputs):
        raise problems.broken("The output parameter 'classification' is unknown. The class is in the output `label`.")
    call = InferRequest(
        model=model,
        version=request.path_params.get("version", ""),
        id=ID.decode(body.id),
        inputs=[_tensor(body.inputs[0], raw)],
        parameters=parameters,
        outputs=[output.name for output in outputs],
        request_id=request.request_id,
    )
    request.body = b""
    return call, RawOutputs(all_raw, {output.name: output.parameters.get("binary_data", all_raw) is True for output in outputs})


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


def _tensor(given: _Input, raw: memoryview) -> Tensor:
    name = NAME.decode(given.name)
    datatype = DATATYPE.decode(given.datatype)
    shape = SHAPE.decode(given.shape)
    parameters = _parameters(TENSOR_PARAMETERS, given.parameters)
    count = elements(name, shape)
    size = parameters.get("binary_data_size")
    data: Data
    if size is None:
        if len(raw):
            raise problems.broken(f"{len(raw)} bytes after the JSON belong to no input.")
        data = _from_json(name, given.data, count, base64=parameters.get("content_type") == "base64")
    else:
        if isinstance(size, bool) or not isinstance(size, int) or size != len(raw):
            raise problems.broken(
                f"binary_data_size of input {name[:40]!r} is {str(size)[:20]}; {len(raw)} bytes follow the JSON."
            )
        data = split_bytes(name, raw, count) if datatype == "BYTES" else []
    return Tensor(name, datatype, tuple(shape), data)


def _from_json(name: str, data: Raw, count: int, *, base64: bool) -> Data:
    """The elements of a tensor, of which there must be `count`."""
    if bytes(memoryview(data)[:4]) in (b"", b"null"):
        raise problems.broken(f"Input {name[:40]!r} has no data.")
    try:
        items = _elements(count).decode(data)
        return [_base64(item) if base64 else _text(name, item) for item in items]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if base64 and "base64" in str(error):
            detail = f"The data of input {name[:40]!r} is not valid base64, which its content_type declares."
        elif "array` of length" in str(error):
            detail = f"Input {name[:40]!r} has not the {count} elements of its shape."
        else:
            detail = f"The data of input {name[:40]!r} must be strings: {str(error)[:200]}."
        raise problems.broken(detail) from None
    except RecursionError:
        raise problems.broken(NESTED) from None


@lru_cache(maxsize=256)
def _elements(count: int) -> msgspec.json.Decoder[tuple[Raw, ...]]:
    """Decodes an array of exactly so many elements: of more it makes nothing."""
    return msgspec.json.Decoder(tuple[(Raw,) * count])  # type: ignore[misc]


def _base64(item: Raw) -> bytes:
    decoded = BASE64.decode(item)
    return decoded if isinstance(decoded, bytes) else decoded[0]


def _text(name: str, item: Raw) -> bytes:
    """The UTF-8 of an element: a text of Python may take four times as much."""
    if memoryview(item).nbytes > MAX_TEXT_BYTES:
        raise problems.too_large(f"An element of input {name[:40]!r} is too long for a text. Shorten it, or declare base64.")
    decoded = TEXT.decode(item)
    return (decoded if isinstance(decoded, str) else decoded[0]).encode()


def _parameters(part: _Part[dict[str, Parameter]], raw: Raw) -> dict[str, Parameter]:
    found = part.decode(raw)
    if len(found) > MAX_PARAMETERS:
        raise problems.broken(f"There are {len(found)} parameters; at most {MAX_PARAMETERS} are accepted.")
    return dict(found)


def _decoded(decoder: msgspec.json.Decoder[KindT], raw: bytes | Raw, what: str) -> KindT:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if str(error) == NUMBER_OF_INPUTS:
            raise problems.broken("The call must have one input: each model takes one.") from None
        raise problems.broken(f"{what} is wrong: {str(error)[:200]}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise problems.broken(f"The body is not valid JSON: {str(error)[:200]}.") from None
    except RecursionError:
        raise problems.broken(NESTED) from None
