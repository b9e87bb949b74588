"""The REST server: the course of a request from its route to its response.

BentoML's handlers of `@bentoml.api` methods cost several times as much, and answer errors in forms of their own (400 where 422
is meant). So the methods in `service.py` are declarations, for the schema and the clients, and this server answers their paths.
It forwards a few paths to BentoML's routes (`/livez`, the page at `/`), and replaces their errors by problems.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from loguru import logger
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from bunriwiki.disposal.advice import Guide
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers.dataplane import DataPlane
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.protocols.rest import bentoml_routes
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.metrics import route_metrics, scrape_route
from bunriwiki.protocols.rest.open_inference import OpenInferenceRoutes
from bunriwiki.protocols.rest.requests import Request, request_id_of, unless_disconnected
from bunriwiki.protocols.rest.responses import Response, error_response, is_open_inference, write
from bunriwiki.protocols.rest.routing import Match, Router
from bunriwiki.protocols.rest.traced import begin_span, in_span
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.requests import OTHER
from bunriwiki.web import problems
from bunriwiki.web.bodies import BodyReader, ReadLimits
from bunriwiki.web.clients import CLIENT, Clients, group_of
from bunriwiki.web.tokens import TokenGate

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

CLIENT_CLOSED_REQUEST = 499  # nginx' status for a client that disconnected: only the metrics see it


class RestServer:
    """Answers the requests of one gateway worker.

    A body has to arrive within `read_limits`; `memory` bounds the bodies of all protocols together. Every response has an
    `X-Request-Id`, and closes its connection while `dataplane` is draining. `gate` lets administrators pass. With
    `log_requests`, each prediction is logged. With `tracing`, requests have a span.
    """

    def __init__(
        self,
        *,
        dataplane: DataPlane,
        open_inference: OpenInference,
        sidecar: Sidecar,
        gate: TokenGate,
        guide: Guide,
        memory: Memory,
        read_limits: ReadLimits,
        log_requests: bool,
        scrape: Scrape,
        bento_metrics: BentoMetrics | None = None,
        feedback: Feedback | None = None,
        tracing: Tracing | None = None,
        clients: Clients | None = None,
    ) -> None:
        self._clients = clients or Clients()
        self._dataplane = dataplane
        self._memory = memory
        self._bodies = BodyReader(read_limits)
        self._log_requests = log_requests
        self._tracing = tracing
        routes = [
            *Endpoints(dataplane, guide, feedback or Feedback(), gate).routes(),
            *CommandRoutes(sidecar).routes(),
            *OpenInferenceRoutes(open_inference).routes(),
            scrape_route(scrape),
        ]
        self._router = Router(routes)
        series = [(route.method, route.path) for route in routes] + [("GET", path) for path in bentoml_routes.TEMPLATES]
        self._metrics = route_metrics(series, bento_metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, bentoml: ASGIApp) -> None:
        """Answer an HTTP request. `bentoml` are BentoML's routes."""
        path = scope["path"]
        match = self._router.match(path)
        route = match.route.path if match else bentoml_routes.template(path) or OTHER
        metrics = self._metrics[route]
        metrics.running += 1
        metrics.latest = began = time.perf_counter()
        timing = RequestTiming(metrics, scope["method"], began)
        status = 500
        try:
            if match:
                answer = self._answer(match, timing, scope, receive, send)
            elif route != OTHER:
                answer = self._forward(bentoml, scope, receive, send)
            else:
                answer = self._not_found(scope, receive, send)
            if self._tracing is not None and (span := begin_span(self._tracing, route, scope)) is not None:
                answer = in_span(self._tracing, span, answer)
            status = await answer
        finally:
            metrics.running -= 1
            if not timing.ended:
                timing.end(status)

    # What answers a request returns the status of the response that it sent.

    async def _answer(self, match: Match, timing: RequestTiming, scope: Scope, receive: Receive, send: Send) -> int:
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        CLIENT.set(self._clients.of_scope(scope))
        query = scope.get("query_string", b"")
        request = Request(headers, query=query, path_params=match.path_params, request_id=request_id, timing=timing)
        try:
            response = await self._respond(match, request, scope, receive)
        except problems.RequestError as error:
            response = error_response(error, scope["path"], request_id)
        except ClientDisconnect:
            response = Response(b"", CLIENT_CLOSED_REQUEST)
        except Exception:
            logger.exception("{} {} failed | request {}", scope["method"], scope["path"], request_id)
            response = error_response(problems.internal(problems.UNEXPECTED), scope["path"], request_id)
        timing.end(response.status)  # before it is sent: a worker that is killed has counted every response that a client has
        await write(response, request_id, scope, receive, send, close=self._dataplane.draining)
        if self._log_requests and match.route.log:
            _log(scope, response, request_id, time.perf_counter() - timing.began)
        return response.status

    async def _respond(self, match: Match, request: Request, scope: Scope, receive: Receive) -> Response:
        route = match.route
        if not route.allows(scope["method"]):
            raise problems.method_not_allowed(scope["method"], route.allow)
        if route.max_body_bytes is None:
            return await route.endpoint(request)
        resize = partial(self._memory.resize, group_of(CLIENT.get()), match.model)
        request.body = await self._bodies.read(scope, receive, max_bytes=route.max_body_bytes, resize=resize)
        size = len(request.body)
        try:
            return await unless_disconnected(route.endpoint(request), receive)
        finally:
            resize(size, 0)

    async def _forward(self, bentoml: ASGIApp, scope: Scope, receive: Receive, send: Send) -> int:
        if scope["method"] not in ("GET", "HEAD"):
            return await self._not_found(scope, receive, send)
        status = await bentoml_routes.forward(bentoml, scope, receive, send)
        if status < bentoml_routes.ERROR:
            return status
        return await self._reject(_error_of_bentoml(status, scope["path"]), scope, receive, send)

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> int:
        # No other path of BentoML can be reached, above all not its own handlers of the declared methods: its router also takes
        # `/predict%0A` for `/predict`, and there a file field may hold an address, which BentoML fetches.
        return await self._reject(_not_found(scope["path"]), scope, receive, send)

    async def _reject(self, error: problems.RequestError, scope: Scope, receive: Receive, send: Send) -> int:
        request_id = request_id_of(Headers(scope=scope))
        response = error_response(error, scope["path"], request_id)
        await write(response, request_id, scope, receive, send, close=self._dataplane.draining)
        return response.status


def _log(scope: Scope, response: Response, request_id: str, seconds: float) -> None:
    headers = response.headers
    served = f" by {headers['X-Model-Name']} {headers['X-Model-Version']}" if response.status == 200 else ""
    logger.info(
        "{} {} {} in {:.1f} ms{} | request {}",
        scope["method"], scope["path"], response.status, seconds * 1000, served, request_id,
    )  # fmt: skip


def _not_found(path: str) -> problems.RequestError:
    hint = "GET /v2 describes this server." if is_open_inference(path) else "The page at / lists the calls."
    return problems.not_found(f"There is nothing at {path[:100]}. {hint}")


def _error_of_bentoml(status: int, path: str) -> problems.RequestError:
    """The error for a status of BentoML's routes."""
    match status:
        case 404:
            return _not_found(path)
        case 405:
            return problems.RequestError(405, "This method is not possible here.", {"Allow": "GET, HEAD"})
        case 503:
            return problems.unavailable("The service cannot answer now. Try again in a moment.")
        case 504:
            return problems.deadline_exceeded("The service did not answer in time. Try again when the load is lower.")
        case _:
            return problems.RequestError(status, "The service could not answer. Its log says more.")
