"""Decoding of messages, and rejection of those that cannot be decoded within bounds.

grpc.aio itself answers UNKNOWN with the text of a Python exception.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from bunriwiki.protocols.grpc import bounds, messages
from bunriwiki.protocols.grpc import open_inference_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
INFER = (f"/{_SERVICE}/ModelInfer", f"/{_SERVICE}/ModelStreamInfer")


@dataclass(frozen=True, slots=True)
class _Rejected:
    """Takes the place of a message that was not decoded."""

    detail: str


MALFORMED = _Rejected("The message cannot be decoded. Encode it by the proto of this service.")
TOO_MUCH = _Rejected(
    f"The message has more than {bounds.MAX_OTHER_BYTES} bytes besides the elements of BYTES tensors, more than "
    f"{bounds.MAX_FIELDS} fields, or cannot be decoded. Send less in a call."
)


class RejectMalformed(grpc.aio.ServerInterceptor):
    """Answers INVALID_ARGUMENT to a message that cannot be decoded. An infer request becomes a `messages.ReceivedCall`."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        decode = _decoder(handler_call_details.method, handler.request_deserializer)
        if handler.unary_unary:
            return handler._replace(request_deserializer=decode, unary_unary=_checked(handler.unary_unary))
        if handler.stream_stream:
            return handler._replace(request_deserializer=decode, stream_stream=_checked_stream(handler.stream_stream))
        return handler


def _decoder(method: str, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    layout = bounds.NO_TENSORS
    if method in INFER:
        layout, decode = bounds.INFER_REQUEST, messages.read_call

    def decode_or_mark(data: bytes) -> Any:
        try:
            bounds.check(data, layout)
            return decode(data)
        except DecodeError:
            return MALFORMED
        except bounds.TooMuchError:
            return TOO_MUCH

    return decode_or_mark


def _checked(answer: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def checked(request: Any, context: Any) -> Any:
        if isinstance(request, _Rejected):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.detail)
        return await answer(request, context)

    return checked


def _checked_stream(answer: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def checked(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async def well_formed() -> AsyncIterator[Any]:
            async for request in requests:
                if isinstance(request, _Rejected):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.detail)
                yield request

        async for response in answer(well_formed(), context):
            yield response

    return checked
