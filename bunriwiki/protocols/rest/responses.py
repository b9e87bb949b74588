"""Responses, errors as responses, and how a response is written."""

from __future__ import annotations

import asyncio
import json

import msgspec
from starlette.types import Receive, Scope, Send

from bunriwiki.protocols.rest.schemas import Problem
from bunriwiki.web import problems
from bunriwiki.web.whole_response import WHOLE_RESPONSE

LINGER_BYTES = 64 * 2**20
LINGER_SECONDS = 2.0


class Response(msgspec.Struct, gc=False):
    """A whole body, JSON unless `media_type` says otherwise."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: dict[str, str] = msgspec.field(default_factory=dict)


def is_open_inference(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol, which has its own form of errors."""
    return path == "/v2" or path.startswith("/v2/")


def error_response(error: problems.RequestError, path: str, request_id: str) -> Response:
    """The error as a problem, or below `/v2` in the form of the Open Inference Protocol, which knows no 422."""
    if is_open_inference(path):
        status = 400 if error.status == 422 else error.status
        body = json.dumps({"error": error.detail}, ensure_ascii=False).encode()
        return Response(body, status, headers=dict(error.headers))
    problem = Problem.of(error, path, request_id=request_id)
    return Response(problem.model_dump_json().encode(), error.status, problems.MEDIA_TYPE, dict(error.headers))


async def write(response: Response, request_id: str, scope: Scope, receive: Receive, send: Send, *, close: bool) -> None:
    """Send a response. With `close`, or if the request's body was not read to its end, the connection is closed afterwards."""
    response.headers["X-Request-Id"] = request_id
    response.headers["Content-Type"] = response.media_type
    body_not_read = response.headers.get("Connection") == "close"  # `bunriwiki.web.bodies` says so
    if not body_not_read and WHOLE_RESPONSE in scope.get("extensions", ()):
        whole = {"headers": response.headers, "body": response.body, "close": close}
        await send({"type": WHOLE_RESPONSE, "status": response.status, **whole})
        return
    if close:
        response.headers["Connection"] = "close"
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
    headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": body_not_read})
    if body_not_read:
        await _linger(receive)
        await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    """Read on for a while after a rejection: a client that is still sending would lose the response to a closed connection."""
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
