"""From messages to the protocol's calls, and from its answers to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.statistics import Duration, Statistics
from bunriwiki.protocols.inference.handlers import InferRequest, InferResponse, ModelMetadata
from bunriwiki.protocols.inference.tensors import MAX_INPUTS, Tensor, TensorSpec, elements, split_bytes, to_raw

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
"""The code for each HTTP status of `bunriwiki.protocols.handlers.errors`; all others are INTERNAL."""


def read_request(message: pb.ModelInferRequest) -> InferRequest:
    """The call in a message. Raises RequestError."""
    if len(message.inputs) > MAX_INPUTS or len(message.outputs) > MAX_INPUTS:
        raise errors.broken(f"The call has {len(message.inputs)} inputs; the model takes one.")
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise errors.broken(f"The call has {len(message.inputs)} inputs and {len(raw)} raw_input_contents.")
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=_parameters(message.parameters),
        inputs=[_tensor(one, raw[number] if raw else None) for number, one in enumerate(message.inputs)],
        outputs=[one.name for one in message.outputs],
    )


def write_response(answer: InferResponse, *, raw: bool) -> pb.ModelInferResponse:
    """The message for an answer, with its tensors raw or typed."""
    message = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
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
        else:
            output.contents.int_contents.extend(tensor.data.tolist())
    return message


def write_metadata(found: ModelMetadata) -> pb.ModelMetadataResponse:
    """The message for a model's metadata."""

    def spec(one: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
        return pb.ModelMetadataResponse.TensorMetadata(name=one.name, datatype=one.datatype, shape=one.shape)

    return pb.ModelMetadataResponse(
        name=found.name,
        versions=found.versions,
        platform=found.platform,
        inputs=[spec(found.signature.takes)],
        outputs=[spec(one) for one in found.signature.gives],
    )


def write_statistics(name: str, version: str, one: Statistics) -> pb.ModelStatistics:
    """The message for a model's statistics."""

    def duration(of: Duration) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=of.count, ns=of.ns)

    nothing = duration(Duration(one.success.count))
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=one.last_ms,
        inference_count=one.inferences,
        execution_count=one.infer.count,
        inference_stats=pb.InferStatistics(
            success=duration(one.success),
            fail=duration(one.fail),
            queue=nothing,
            compute_input=nothing,
            compute_infer=duration(one.infer),
            compute_output=nothing,
        ),
    )


def _tensor(one: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    count = elements(one.name, one.shape)
    if one.datatype != "BYTES":
        data: list[bytes] = []  # no model takes another type: its own check says so
    elif raw is not None:
        if one.HasField("contents"):
            raise errors.broken(f"Input {one.name[:40]!r} has both contents and raw_input_contents.")
        data = split_bytes(one.name, raw, count)
    else:
        data = list(one.contents.bytes_contents)
    return Tensor(one.name, one.datatype, tuple(one.shape), data)


def _parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        which = value.WhichOneof("parameter_choice")
        if which is None:
            raise errors.broken(f"The parameter {name[:40]!r} has no value.")
        found[name] = getattr(value, which)
    return found
