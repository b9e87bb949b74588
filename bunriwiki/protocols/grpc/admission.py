"""Which calls are answered: a limit for all of them, outside of which are health checks, and limits for their messages.

grpc.aio has a limit for calls of its own, which includes health checks, and in which calls count whose messages never arrive.
Here every method reads its message itself, as a stream of one: on the wire there is no difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health

from bunriwiki.protocols.grpc.arrivals import Arrivals, messages_of
from bunriwiki.protocols.grpc.waits import ArrivalError, Connection, Wait
from bunriwiki.web.groups import Groups

MAX_CALLS = 1024  # at a time, besides health checks: an idle stream takes about 30 KB
LINGER_SECONDS = 5.0  # before the answer to a stream that made room for another call: an attacker opens it again at once
MAX_LINGERING = 128
MAX_HEALTH_CALLS = 64  # of each method: those that watch do not keep others from asking
IDLE_SECONDS = 300.0  # between two messages of a stream


class _Calls:
    """At most `limit` calls. Too many replace those that wait for messages: the oldest of the client with the most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._lingering = 0
        self.waits: Groups[Wait] = Groups()

    def begin(self, client: str) -> bool:
        """Count a call of `client`; returns whether there is room for it."""
        room = self._count < self._limit or self._make_room(client)
        self._count += 1
        return room

    def end(self) -> None:
        """The call has ended, with room or without."""
        self._count -= 1

    def _make_room(self, newcomer: str) -> bool:
        client = self.waits.largest(newcomer)
        wait = self.waits.oldest(client)
        if wait is None:
            return False
        self.waits.remove(client, wait)
        wait.end("calls")
        return True

    async def linger(self, arrivals: Arrivals, connection: Connection) -> None:
        """Wait before a call that made room is answered. Meanwhile it does not count."""
        if self._lingering < MAX_LINGERING:
            self._lingering += 1
            self._count -= 1
            try:
                await arrivals.linger(connection, LINGER_SECONDS)
            finally:
                self._lingering -= 1
                self._count += 1


class Admission(grpc.aio.ServerInterceptor):
    """The outermost interceptor. A call's message has to arrive within `seconds`."""

    def __init__(self, arrivals: Arrivals, seconds: float) -> None:
        self._arrivals = arrivals
        self._seconds = seconds
        self._calls = _Calls(MAX_CALLS)
        self._handlers: dict[str, Any] = {}  # of the methods that exist

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method
        bounded = self._handlers.get(method)
        if bounded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            is_health = method.startswith(f"/{health.SERVICE_NAME}/")
            calls = _Calls(MAX_HEALTH_CALLS) if is_health else self._calls
            bounded = self._handlers[method] = self._bounded(handler, calls)
        return bounded

    def _bounded(self, handler: Any, calls: _Calls) -> Any:
        decode, encode = messages_of(handler.request_deserializer), handler.response_serializer

        async def answer(_: Any, context: Any) -> Any:
            """Of a unary call; that of health's Watch writes its responses itself."""
            connection = self._arrivals.connection(context.peer())
            try:
                if not calls.begin(connection.client):
                    await _full(context)
                message = await self._receive(context, connection, calls, self._seconds)
                if message is grpc.aio.EOF:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The call has no message. Send one.")
                return await work(message, context)
            except grpc.aio.AbortError as error:
                _forget_frames(error)
                del context
                raise
            finally:
                calls.end()

        async def answer_stream(_: Any, context: Any) -> AsyncIterator[Any]:
            connection = self._arrivals.connection(context.peer())
            try:
                if not calls.begin(connection.client):
                    await _full(context)
                async for response in handler.stream_stream(self._messages(context, connection, calls), context):
                    yield response
            except grpc.aio.AbortError as error:
                _forget_frames(error)
                del context
                raise
            finally:
                calls.end()

        work = handler.unary_unary or handler.unary_stream
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(answer, decode, encode)
        return grpc.stream_stream_rpc_method_handler(answer if work else answer_stream, decode, encode)

    async def _messages(self, context: Any, connection: Connection, calls: _Calls) -> AsyncIterator[Any]:
        while (message := await self._receive(context, connection, calls, IDLE_SECONDS)) is not grpc.aio.EOF:
            yield message

    async def _receive(self, context: Any, connection: Connection, calls: _Calls, seconds: float) -> Any:
        try:
            return await self._arrivals.receive(connection, calls.waits, seconds, context.read)
        except ArrivalError as error:
            if error.reason == "calls" and not connection.held:
                await calls.linger(self._arrivals, connection)
            if error.reason != "time":
                await _full(context)
            detail = f"No message arrived within {seconds:g} s. Send it faster, or begin a new call."
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, detail)


def _forget_frames(error: BaseException) -> None:
    """Let go of what raised it. grpc keeps the error of an aborted call, whose frames have the call's context.

    Otherwise each such call would stay until the collector visits the oldest objects: 7 KB, and the core's memory for it.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


async def _full(context: Any) -> NoReturn:
    detail = "There are too many calls, or their messages take all memory for bodies. Try again in a moment."
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, detail)
    raise AssertionError("abort raises")
