"""Rejection of bytes that cannot be decoded: grpc.aio itself answers UNKNOWN with the text of a Python exception."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

MALFORMED = object()  # takes the place of the message
DETAIL = "The message cannot be decoded. Encode it by the proto of this service."


class RejectMalformed(grpc.aio.ServerInterceptor):
    """Answers INVALID_ARGUMENT to a message that cannot be decoded."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        if handler.unary_unary:
            return handler._replace(
                request_deserializer=_lenient(handler.request_deserializer), unary_unary=_checked(handler.unary_unary)
            )
        if handler.stream_stream:
            return handler._replace(
                request_deserializer=_lenient(handler.request_deserializer),
                stream_stream=_checked_stream(handler.stream_stream),
            )
        return handler


def _lenient(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode_or_mark(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return MALFORMED

    return decode_or_mark


def _checked(answer: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def checked(request: Any, context: Any) -> Any:
        if request is MALFORMED:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, DETAIL)
        return await answer(request, context)

    return checked


def _checked_stream(answer: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def checked(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async def well_formed() -> AsyncIterator[Any]:
            async for request in requests:
                if request is MALFORMED:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, DETAIL)
                yield request

        async for response in answer(well_formed(), context):
            yield response

    return checked
