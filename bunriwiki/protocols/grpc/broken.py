"""Bytes that are no message: grpc.aio by itself would answer UNKNOWN with a Python exception's text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

BROKEN = object()
SENTENCE = "The message cannot be read: it is not what the proto of this service says."


class RejectBroken(grpc.aio.ServerInterceptor):
    """Answers INVALID_ARGUMENT to what cannot be decoded."""

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
    def decode_or_say_so(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return BROKEN

    return decode_or_say_so


def _checked(answer: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def checked(request: Any, context: Any) -> Any:
        if request is BROKEN:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, SENTENCE)
        return await answer(request, context)

    return checked


def _checked_stream(answer: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def checked(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async def whole() -> AsyncIterator[Any]:
            async for request in requests:
                if request is BROKEN:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, SENTENCE)
                yield request

        async for answered in answer(whole(), context):
            yield answered

    return checked
