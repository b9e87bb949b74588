"""The calls of `inference.GRPCInferenceService`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import grpc
from loguru import logger

from bunriwiki import __version__
from bunriwiki.protocols.grpc import messages
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from bunriwiki.protocols.grpc.traced import CallTrace
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.protocols.inference.handlers import EXTENSIONS, NAME, OpenInference
from bunriwiki.telemetry.metrics.gauges import publish_from
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, MessageMetrics, RouteMetrics
from bunriwiki.web import problems
from bunriwiki.web.clients import CLIENT, Clients, group_of

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

FLUSH_SECONDS = 0.1  # for the last responses to be sent
PROTOCOL = "grpc"  # the label `protocol` of the metrics
METHOD = "POST"  # the label `method`: HTTP/2's
OK, CANCELLED = "OK", "CANCELLED"  # names of statuses
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
AnswerT = TypeVar("AnswerT")


class Servicer(GRPCInferenceServiceServicer):
    """Translates messages for the handlers and back; a RequestError becomes a gRPC status."""

    def __init__(
        self, handlers: OpenInference, memory: Memory, tracing: Tracing | None = None, clients: Clients | None = None
    ) -> None:
        self._handlers = handlers
        self._clients = clients or Clients()
        self._memory = memory
        self._tracing = tracing
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._metrics = {
            method.name: RouteMetrics(f"/{SERVICE.full_name}/{method.name}", PROTOCOL) for method in SERVICE.methods
        }
        self._message_metrics = MessageMetrics()
        for route in self._metrics.values():
            route.begin(METHOD, OK)
        publish_from(IN_FLIGHT.labels(PROTOCOL), lambda: sum(route.running for route in self._metrics.values()))

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        async def answer() -> pb.ServerLiveResponse:
            return pb.ServerLiveResponse(live=True)

        return await self._counted("ServerLive", context, answer)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        async def answer() -> pb.ServerReadyResponse:
            return pb.ServerReadyResponse(ready=await self._handlers.server_ready())

        return await self._counted("ServerReady", context, answer)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        async def answer() -> pb.ModelReadyResponse:
            return pb.ModelReadyResponse(ready=await self._handlers.model_ready(request.name, request.version))

        return await self._counted("ModelReady", context, answer)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        async def answer() -> pb.ServerMetadataResponse:
            return pb.ServerMetadataResponse(name=NAME, version=__version__, extensions=EXTENSIONS)

        return await self._counted("ServerMetadata", context, answer)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        async def answer() -> pb.ModelMetadataResponse:
            return messages.write_metadata(await self._handlers.model_metadata(request.name, request.version))

        return await self._counted("ModelMetadata", context, answer)

    async def ModelInfer(self, request: messages.ReceivedCall, context: Context) -> pb.ModelInferResponse:
        timing = RequestTiming(self._metrics["ModelInfer"], METHOD, time.perf_counter())
        return await self._counted("ModelInfer", context, lambda: self._infer(request, context, timing), timing)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[messages.ReceivedCall], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Each request is answered as it arrives. A request that fails is answered with its error, and the stream goes on."""
        route = self._metrics["ModelStreamInfer"]
        route.running += 1
        timing = RequestTiming(route, METHOD, time.perf_counter())
        status = CANCELLED
        trace = self._trace("ModelStreamInfer", context)
        try:
            async for request in request_iterator:
                try:
                    yield pb.ModelStreamInferResponse(infer_response=await self._infer_message(request, context))
                except Exception as error:
                    rejected = pb.ModelInferResponse(model_name=request.model, id=request.id)
                    yield pb.ModelStreamInferResponse(error_message=_detail(error), infer_response=rejected)
            status = OK
        finally:
            route.running -= 1
            if trace is not None:
                trace.end(status)
            timing.end(status)

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        async def answer() -> pb.ModelStatisticsResponse:
            found = self._handlers.statistics(request.name, request.version)
            return pb.ModelStatisticsResponse(model_stats=[messages.write_statistics(*item) for item in found])

        return await self._counted("ModelStatistics", context, answer)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        async def answer() -> pb.RepositoryIndexResponse:
            entry = pb.RepositoryIndexResponse.ModelIndex
            found = await self._handlers.index(ready_only=request.ready)
            return pb.RepositoryIndexResponse(
                models=[entry(name=item.name, version=item.version, state=item.state, reason=item.reason) for item in found]
            )

        return await self._counted("RepositoryIndex", context, answer)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        async def answer() -> pb.RepositoryModelLoadResponse:
            await self._handlers.load(request.model_name, self._authorization(context))
            return pb.RepositoryModelLoadResponse()

        return await self._counted("RepositoryModelLoad", context, answer)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        async def answer() -> pb.RepositoryModelUnloadResponse:
            await self._handlers.unload(request.model_name, self._authorization(context))
            return pb.RepositoryModelUnloadResponse()

        return await self._counted("RepositoryModelUnload", context, answer)

    async def finish(self, seconds: float) -> None:
        """Wait for the calls in flight, but no longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        await asyncio.sleep(FLUSH_SECONDS)

    async def _infer_message(self, received: messages.ReceivedCall, context: Context) -> pb.ModelInferResponse:
        """Answer a message of a stream, and count the prediction."""
        timing = RequestTiming(self._message_metrics, METHOD, time.perf_counter())
        try:
            return await self._infer(received, context, timing)
        finally:
            if timing.answer is not None:
                timing.end(OK)

    async def _infer(self, received: messages.ReceivedCall, context: Context, timing: RequestTiming) -> pb.ModelInferResponse:
        self._in_flight += 1
        self._idle.clear()
        try:
            resize = partial(self._memory.resize, group_of(self._client_of(context)), received.model)
            resize(0, received.size)
            try:
                if isinstance(received.request, problems.RequestError):
                    raise received.request
                answer = await self._handlers.infer(received.request, context.time_remaining(), timing)
                return messages.write_response(answer, raw=received.raw)
            finally:
                resize(received.size, 0)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def _trace(self, method: str, context: Context) -> CallTrace | None:
        return CallTrace(self._tracing, f"{SERVICE.full_name}/{method}", context) if self._tracing is not None else None

    def _authorization(self, context: Context) -> str | None:
        """The authorization of a call that needs one; the log of a wrong one has the client's address."""
        CLIENT.set(self._client_of(context))
        for name, value in context.invocation_metadata() or ():
            if name == "authorization":
                return str(value)
        return None

    def _client_of(self, context: Context) -> str:
        return self._clients.of_call(context.peer(), context.invocation_metadata())

    async def _counted(
        self, method: str, context: Context, answer: Callable[[], Awaitable[AnswerT]], timing: RequestTiming | None = None
    ) -> AnswerT:
        route = self._metrics[method]
        route.running += 1
        timing = timing or RequestTiming(route, METHOD, time.perf_counter())
        status = CANCELLED
        trace = self._trace(method, context)
        try:
            response = await answer()
            status = OK
            return response
        except problems.RequestError as error:
            status = messages.CODES.get(error.status, grpc.StatusCode.INTERNAL).name
            await _abort(context, error)
        except Exception:
            status = "INTERNAL"
            logger.exception("{} failed", method)
            await _abort(context, problems.internal(problems.UNEXPECTED))
        finally:
            route.running -= 1
            if trace is not None:
                trace.end(status)
            timing.end(status)


def _detail(error: Exception) -> str:
    if isinstance(error, problems.RequestError):
        return error.detail
    logger.opt(exception=error).error("A request of a stream failed")
    return problems.UNEXPECTED


async def _abort(context: Context, error: problems.RequestError) -> NoReturn:
    """End the call with the error's code, and where the client should retry, with the time until then."""
    seconds = error.headers.get("Retry-After")
    hint = (("retry-after", seconds), ("grpc-retry-pushback-ms", str(int(seconds) * 1000))) if seconds else ()
    await context.abort(messages.CODES.get(error.status, grpc.StatusCode.INTERNAL), error.detail, hint)
    raise AssertionError("abort raises")
