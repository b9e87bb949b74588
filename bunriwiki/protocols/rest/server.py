"""The REST door: an ASGI application outside of BentoML's (`bunriwiki/outer_app.py`).

BentoML's own handlers of `@bentoml.api` methods cost several times as much and answer in their own forms (a 400 where 422 is
meant). So the methods in `service.py` are declarations, for the schema and the clients, and this door answers their paths. A
few paths it passes on to BentoML's routes (`/livez`, `/metrics`, the page at `/`), and gives errors from there its own form.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from loguru import logger
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bunriwiki.disposal.advice import Guide
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.dataplane import DataPlane, Served
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.rest import bodies
from bunriwiki.protocols.rest.commands import MAX_BYTES as MAX_COMMAND_BYTES
from bunriwiki.protocols.rest.commands import TEMPLATES as COMMANDS
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.open_inference import Call, OpenInferenceRoutes
from bunriwiki.protocols.rest.openapi import document
from bunriwiki.protocols.rest.schemas import Problem, Recyclables
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics import begin_with_routes, count_request

LINGER_BYTES = 64 * 2**20
LINGER_SECONDS = 2.0
PROTOCOL = "rest"  # its name in the metrics
PASSED_ON = ("/", "/livez", "/healthz", "/metrics", "/schema.json")  # what BentoML answers
ASSETS = "/static_content/"  # what its page at / loads
METHODS = ("GET", "HEAD", "POST")
OTHER = "other"  # in the metrics, for what a client made up
GONE = 499  # nginx' status for a client that left; it is counted, and nobody receives it
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Reply:
    """What goes back: a JSON body (any `media_type` of JSON) with its status and headers."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Incoming:
    """A request with its body read."""

    headers: Headers
    query: bytes
    body: bytes


Handler = Callable[[Incoming], Awaitable[Reply]]


class RestServer:
    """Answers the REST routes from `dataplane`, which is set when the worker has started, with advice from `guide`."""

    def __init__(self, *, guide: Guide, log_requests: bool, read_seconds: float) -> None:
        self.dataplane: DataPlane | None = None
        self._guide = guide
        self._log_requests = log_requests
        self._read_seconds = read_seconds
        self.memory = Memory()
        self._posts: dict[str, Handler] = {
            "/yolo/prediction": self._yolo,
            "/kcbert/prediction": self._kcbert,
            "/predict": self._sentiment,
        }
        self._gets: dict[str, Callable[[], Awaitable[Reply]]] = {
            "/readyz": self._readyz,
            "/v1/models": self._models,
            "/docs.json": self._docs,
        }
        self._paths = {*self._posts, *self._gets, *PASSED_ON}
        self.open_inference: OpenInferenceRoutes | None = None
        self.commands: CommandRoutes | None = None
        self._bento_metrics: BentoMetrics | None = None

    def application(self, behind: ASGIApp) -> ASGIApp:
        """What uvicorn is to call: this door, with BentoML's routes `behind` it."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._count(behind, scope, receive, send)
            elif scope["type"] == "lifespan":
                await behind(scope, receive, send)
            else:
                await send({"type": "websocket.close"})

        return answer

    async def _count(self, behind: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it afterwards: what was counted was answered."""
        started = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        route = self._route(scope)
        bento_metrics = self._bento_metrics if route != "/metrics" else None  # BentoML does not count that one
        if bento_metrics:
            bento_metrics.begin(route)
        try:
            await self._choose(behind, scope, receive, noting)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else OTHER
            count_request(method, route, str(status), PROTOCOL, seconds)
            if bento_metrics:
                bento_metrics.end(route, status, seconds)

    async def _choose(self, behind: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._owns(path):
            await self._answer(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and (path in PASSED_ON or path.startswith(ASSETS)):
            await self._pass_on(behind, scope, receive, send)
        else:
            # Nothing of BentoML's but what is named here can be reached. Above all its own handlers of the declared calls
            # cannot: its router also takes `/predict%0A` for `/predict`, and there a file field may be an address to fetch.
            await self._reject(404, scope, receive, send)

    def _owns(self, path: str) -> bool:
        return path in self._posts or path in self._gets or OpenInferenceRoutes.owns(path) or bool(CommandRoutes.template(path))

    def _route(self, scope: Scope) -> str:
        """The route of a path, for the metrics; `other` for what a client made up."""
        path: str = scope["path"]
        if path in self._paths:
            return path
        if path.startswith(ASSETS):
            return ASSETS + "{file}"
        if OpenInferenceRoutes.owns(path):
            return (self.open_inference and self.open_inference.template(scope["method"], path)) or OTHER
        return CommandRoutes.template(path) or OTHER

    def begin_counting(self) -> None:
        """Have the series of every route exist. To be called in the worker."""
        templates = self.open_inference.templates() if self.open_inference else []
        gets = [("GET", path) for path in (*self._gets, *PASSED_ON)]
        posts = [("POST", path) for path in (*self._posts, *COMMANDS)]
        routes = [*posts, *gets, *templates]
        begin_with_routes(routes, PROTOCOL, "200")
        self._bento_metrics = BentoMetrics()
        for _, route in routes:
            self._bento_metrics.existing(route, 200)

    async def _yolo(self, incoming: Incoming) -> Reply:
        asked = await bodies.parse_photo(incoming.headers, incoming.query, incoming.body)
        incoming.body = b""  # a form's photo is a copy: what it came in need not wait with it
        [served] = await self._plane.detect(asked.photo)
        if asked.advice:
            return _served(served, Recyclables.of(served.answer, self._guide).model_dump_json().encode())
        return _served(served, msgspec.json.encode(served.answer))

    async def _kcbert(self, incoming: Incoming) -> Reply:
        bodies.parse_query(incoming.query)
        [served] = await self._plane.classify_comment(bodies.parse_text(incoming.headers, incoming.body))
        return _served(served, msgspec.json.encode(served.answer))

    async def _sentiment(self, incoming: Incoming) -> Reply:
        bodies.parse_query(incoming.query)
        [served] = await self._plane.classify_sentiment(bodies.parse_text(incoming.headers, incoming.body))
        answer = served.answer
        return _served(
            served, msgspec.json.encode({"sentiment": answer.label, "score": answer.score, "details": answer.details})
        )

    async def _readyz(self) -> Reply:
        reasons = await self._plane.unready()
        if reasons:
            raise errors.unavailable(f"Not ready: {', '.join(reasons)}.")
        return Reply(200, b"\n", "text/plain; charset=utf-8")

    async def _models(self) -> Reply:
        return Reply(200, (await self._plane.models()).model_dump_json().encode())

    async def _docs(self) -> Reply:
        return Reply(200, document())

    @property
    def _plane(self) -> DataPlane:
        if self.dataplane is None:
            raise errors.unavailable("The service is starting. Try again in a moment.")
        return self.dataplane

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        try:
            reply = await self._handle(scope, headers, receive)
        except errors.RequestError as error:
            reply = _rejection(error, scope["path"], request_id)
        except bodies.ClientGoneError:
            # Nobody reads this answer; it is what the metrics count.
            reply = Reply(GONE, b"")
        except Exception:
            logger.exception("{} {} failed | request {}", scope["method"], scope["path"], request_id)
            reply = _rejection(errors.internal("Something went wrong here. It was logged."), scope["path"], request_id)
        reply.headers["X-Request-Id"] = request_id
        await self._send(reply, receive, send)
        if self._log_requests and scope["path"] in self._posts:
            self._log(scope, reply, time.perf_counter() - started)

    async def _handle(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        if OpenInferenceRoutes.owns(path):
            return await self._answer_open_inference(scope, headers, receive)
        if path in self._gets:
            if method not in ("GET", "HEAD"):
                raise errors.method_not_allowed(method, "GET, HEAD")
            return await self._gets[path]()
        if method != "POST":
            raise errors.method_not_allowed(method, "POST")
        if CommandRoutes.template(path):
            return await self._answer_command(path, headers, receive)
        limit = bodies.MAX_BYTES if path == "/yolo/prediction" else bodies.MAX_TEXT_BYTES
        with self.memory.holding() as take:
            body = await self._read(headers, receive, limit, take)
            incoming = Incoming(headers, scope.get("query_string", b""), body)
            return await _unless_gone(self._posts[path](incoming), receive)

    async def _read(self, headers: Headers, receive: Receive, limit: int, take: Callable[[int], None]) -> bytes:
        try:
            async with asyncio.timeout(self._read_seconds):
                return await bodies.read_body(headers, receive, limit, take)
        except TimeoutError:
            raise errors.too_slow(f"The body did not arrive within {self._read_seconds:g} s. Send it faster.") from None

    async def _answer_open_inference(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        if self.open_inference is None:
            raise errors.unavailable("The service is starting. Try again in a moment.")
        handler, names = self.open_inference.find(scope["method"], scope["path"])
        with self.memory.holding() as take:
            body = await self._read(headers, receive, bodies.MAX_BYTES + bodies.MAX_TEXT_BYTES, take)
            answer = await _unless_gone(handler(Call(names, headers, body)), receive)
        reply = Reply(answer.status, answer.body)
        if answer.json_length is not None:
            reply.media_type = "application/octet-stream"
            reply.headers["Inference-Header-Content-Length"] = str(answer.json_length)
        if answer.served:
            reply.headers["X-Model-Name"], reply.headers["X-Model-Version"] = answer.served
        return reply

    async def _answer_command(self, path: str, headers: Headers, receive: Receive) -> Reply:
        if self.commands is None:
            raise errors.unavailable("The service is starting. Try again in a moment.")
        with self.memory.holding() as take:
            body = await self._read(headers, receive, MAX_COMMAND_BYTES, take)
            passed = await _unless_gone(self.commands.answer(path, headers, body), receive)
        return Reply(passed.status, passed.body, passed.media_type)

    async def _send(self, reply: Reply, receive: Receive, send: Send) -> None:
        cut_off = reply.status in (408, 413)  # the body was not read to its end
        if cut_off or (self.dataplane is not None and self.dataplane.draining):
            reply.headers["Connection"] = "close"
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        headers += [(b"content-type", reply.media_type.encode()), (b"content-length", b"%d" % len(reply.body))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": cut_off})
        if cut_off:
            await _linger(receive)
            await send({"type": "http.response.body", "body": b""})

    def _log(self, scope: Scope, reply: Reply, seconds: float) -> None:
        served = f" by {reply.headers['X-Model-Name']} {reply.headers['X-Model-Version']}" if reply.status == 200 else ""
        request_id = reply.headers["X-Request-Id"]
        logger.info(
            "{} {} {} in {:.1f} ms{} | request {}",
            scope["method"], scope["path"], reply.status, seconds * 1000, served, request_id,
        )  # fmt: skip

    async def _pass_on(self, behind: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let BentoML's routes answer, without its middlewares; an error of theirs is replaced by a problem."""
        failed: int | None = None
        begun = False

        async def unless_failed(message: Message) -> None:
            nonlocal failed, begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                failed = message["status"]
            if failed is None:
                begun = True
                await send(message)

        try:
            await behind(scope, receive, unless_failed)
        except HTTPException as error:
            failed = error.status_code
        except Exception:
            if begun:
                raise
            logger.exception("{} {} failed", scope["method"], scope["path"])
            failed = 500
        if failed is not None:
            await self._reject(failed, scope, receive, send)

    async def _reject(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(Headers(scope=scope))
        reply = _problem(_error_for(status, scope["path"]), scope["path"], request_id)
        reply.headers["X-Request-Id"] = request_id
        await self._send(reply, receive, send)


def _served(served: Served[Any], body: bytes) -> Reply:
    return Reply(200, body, headers={"X-Model-Name": served.model, "X-Model-Version": served.version})


def _problem(error: errors.RequestError, path: str, request_id: str) -> Reply:
    problem = Problem(title=error.title, status=error.status, detail=error.detail, instance=path, request_id=request_id)
    return Reply(error.status, problem.model_dump_json().encode(), "application/problem+json", dict(error.headers))


def _rejection(error: errors.RequestError, path: str, request_id: str) -> Reply:
    """A problem; below /v2 what the Open Inference Protocol wants instead."""
    if not OpenInferenceRoutes.owns(path):
        return _problem(error, path, request_id)
    status = 400 if error.status == 422 else error.status
    return Reply(status, json.dumps({"error": error.detail}, ensure_ascii=False).encode(), headers=dict(error.headers))


def _request_id(headers: Headers) -> str:
    """The client's own id where it is harmless in a log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _error_for(status: int, path: str) -> errors.RequestError:
    match status:
        case 404:
            return errors.RequestError(404, "Not found", f"There is nothing at {path[:100]}. The page at / lists the calls.")
        case 405:
            return errors.RequestError(405, "Method not allowed", "This method is not possible here.", {"Allow": "GET, HEAD"})
        case 503:
            return errors.unavailable("The service cannot answer now. Try again in a moment.")
        case 504:
            return errors.deadline_exceeded("The service did not answer in time. Try again when the load is lower.")
        case _:
            return errors.RequestError(status, "Error", "The service could not answer. Its log says more.")


async def _unless_gone(work: Awaitable[ResultT], receive: Receive) -> ResultT:
    """The result of `work`, which is cancelled when the client closes the connection first. Raises ClientGoneError then."""
    this = asyncio.current_task()
    gone = False

    def leave(_: object) -> None:
        nonlocal gone
        gone = True
        if this is not None:
            this.cancel()

    leaving = asyncio.ensure_future(receive())  # the body has been read: all that can come is the client's leaving
    leaving.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and this is not None and this.uncancel() == 0:
            raise bodies.ClientGoneError from None
        raise
    finally:
        leaving.remove_done_callback(leave)
        leaving.cancel()


async def _linger(receive: Receive) -> None:
    """Read on for a while after a rejection: a client that is still sending would lose the answer to a closed connection."""
    read = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while read < LINGER_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
