"""Conversion between gRPC messages and the protocol's requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import numpy as np

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.handlers.feedback import REQUEST_ID
from bunriwiki.protocols.handlers.statistics import Duration, Statistics
from bunriwiki.protocols.inference.handlers import InferRequest, InferResponse, ModelMetadata
from bunriwiki.protocols.inference.tensors import (
    MAX_INPUTS,
    Parameter,
    Tensor,
    TensorSpec,
    elements,
    split_bytes,
    to_raw,
)
from bunriwiki.web import problems

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The code for each HTTP status of a RequestError; all others are INTERNAL."""


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """An infer request of `size` bytes, or why it is rejected. It does not keep the message, which has all data once more.

    `raw`: its tensors were raw, and the response's should be.
    """

    model: str
    id: str
    size: int
    raw: bool
    request: InferRequest | problems.RequestError


def read_call(data: bytes) -> ReceivedCall:
    """The infer request in the bytes of a message. Raises DecodeError."""
    message = pb.ModelInferRequest.FromString(data)
    request: InferRequest | problems.RequestError
    try:
        request = read_request(message)
    except problems.RequestError as error:
        request = error.with_traceback(None)
    return ReceivedCall(message.model_name, message.id, len(data), bool(message.raw_input_contents), request)


def read_request(message: pb.ModelInferRequest) -> InferRequest:
    """The request in a message. Raises RequestError."""
    if len(message.inputs) > MAX_INPUTS or len(message.outputs) > MAX_INPUTS:
        raise problems.broken(f"The call has {len(message.inputs)} inputs; the model takes one input.")
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise problems.broken(f"The call has {len(message.inputs)} inputs and {len(raw)} raw_input_contents.")
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=_parameters(message.parameters),
        inputs=[_tensor(item, raw[number] if raw else None) for number, item in enumerate(message.inputs)],
        outputs=[output.name for output in message.outputs],
        request_id=message.id if REQUEST_ID.fullmatch(message.id) else "",
    )


def write_response(answer: InferResponse, *, raw: bool) -> pb.ModelInferResponse:
    """The message for a response, with its tensors raw or typed."""
    message = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, text in answer.parameters.items():
        message.parameters[name].string_param = text
    for tensor in answer.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        for name, text in tensor.parameters.items():
            output.parameters[name].string_param = text
        if raw:
            message.raw_output_contents.append(to_raw(tensor))
        elif not isinstance(tensor.data, np.ndarray):
            output.contents.bytes_contents.extend(tensor.data)
        elif tensor.datatype == "FP32":
            output.contents.fp32_contents.extend(tensor.data.tolist())
        elif tensor.datatype == "BOOL":
            output.contents.bool_contents.extend(tensor.data.tolist())
        else:
            output.contents.int_contents.extend(tensor.data.tolist())
    return message


def write_metadata(found: ModelMetadata) -> pb.ModelMetadataResponse:
    """The message for a model's metadata."""

    def metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
        return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)

    return pb.ModelMetadataResponse(
        name=found.name,
        versions=found.versions,
        platform=found.platform,
        inputs=[metadata(spec) for spec in found.inputs],
        outputs=[metadata(spec) for spec in found.outputs],
    )


def write_statistics(name: str, version: str, statistics: Statistics) -> pb.ModelStatistics:
    """The message for a model's statistics."""

    def duration(of: Duration) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=of.count, ns=of.ns)

    nothing = duration(Duration(statistics.success.count))
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=statistics.last_ms,
        inference_count=statistics.inferences,
        execution_count=statistics.infer.count,
        inference_stats=pb.InferStatistics(
            success=duration(statistics.success),
            fail=duration(statistics.fail),
            queue=nothing,
            compute_input=nothing,
            compute_infer=duration(statistics.infer),
            compute_output=nothing,
        ),
    )


def _tensor(given: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    count = elements(given.name, given.shape)
    if given.datatype != "BYTES":
        data: list[bytes] = []  # every model takes BYTES: its check rejects other types
    elif raw is not None:
        if given.HasField("contents"):
            raise problems.broken(f"Input {given.name[:40]!r} has both contents and raw_input_contents.")
        data = split_bytes(given.name, raw, count)
    else:
        data = list(given.contents.bytes_contents)
    return Tensor(given.name, given.datatype, tuple(given.shape), data)


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    found = {}
    for name, value in given.items():
        which = value.WhichOneof("parameter_choice")
        if which is None:
            raise problems.broken(f"The parameter {name[:40]!r} has no value.")
        found[name] = getattr(value, which)
    return found
