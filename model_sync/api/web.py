"""What all routes of the sidecar's API share: tokens, bodies, and errors as problems."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from loguru import logger
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

MAX_BYTES = 1_000_000  # of a body
READ_SECONDS = 10.0  # for a body
DELAY = 0.5  # seconds until a wrong token is answered
MAX_DELAYED = 32

TITLES = {
    400: "Broken request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Too large",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    504: "Deadline exceeded",
}
BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass
class ProblemError(Exception):
    """A request that is answered with an error: an HTTP status, and a sentence that says what to do."""

    status: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


class TokenGate:
    """Lets through who has one of `tokens`; with none, nobody.

    A wrong one is answered late. At most 32 answers wait at a time; one too many is a 429 at once. The right token never waits:
    nobody can be kept out by somebody else's guesses.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens if token]
        self._delayed = 0

    async def check(self, request: Request) -> None:
        """Raises ProblemError unless `Authorization` has one of the tokens. Comparing takes the same time for all."""
        if not self._tokens:
            raise ProblemError(403, "Administration is closed here: BUNRIWIKI_ADMIN_TOKEN is not set.")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("latin-1")  # the bytes that came: Starlette reads headers as Latin-1
        right = [hmac.compare_digest(sent, token) for token in self._tokens]
        if kind.lower() == "bearer" and any(right):
            return
        if self._delayed >= MAX_DELAYED:
            raise ProblemError(429, "Too many wrong tokens. Wait a moment.", {"Retry-After": "1"})
        logger.warning("{} {!r} with no right token from {}", request.method, request.url.path, client_of(request))
        self._delayed += 1
        try:
            await asyncio.sleep(DELAY)
        finally:
            self._delayed -= 1
        detail = "Send `Authorization: Bearer <token>` with one of this service's admin tokens."
        raise ProblemError(401, detail, {"WWW-Authenticate": "Bearer"})


async def read(request: Request) -> bytes:
    """The body. Raises ProblemError as soon as it is known to be too large, and when it takes too long."""
    too_large = ProblemError(413, f"The body is larger than {MAX_BYTES} bytes.", {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise too_large
    except TimeoutError:
        raise ProblemError(408, f"The body did not arrive within {READ_SECONDS:g} s.", {"Connection": "close"}) from None
    return bytes(body)


def parse(body: bytes, kind: type[BodyT], example: str) -> BodyT:
    """What the body says; none says what an empty object does. Raises ProblemError, with `example` where it is no JSON."""
    try:
        return kind.model_validate_json(body if body.strip() else b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise ProblemError(400, f"The body is no JSON. Send an object like {example}.") from None
        place = ".".join(str(part) for part in first["loc"])[:60] or "the body"
        raise ProblemError(422, f"{place}: {first['msg']}.") from None


def client_of(request: Request) -> str:
    return request.client.host if request.client else "an unknown address"


def as_problem(request: Request, error: Exception) -> Response:
    """The answer to an error (RFC 9457), in the data plane's form."""
    path = request.url.path
    match error:
        case ProblemError():
            status, detail, headers = error.status, error.detail, error.headers
        case HTTPException(status_code=404):
            status, detail, headers = 404, f"There is nothing at {path[:100]}.", {}
        case HTTPException():  # a 405 is the only other one that Starlette raises by itself
            headers = dict(error.headers or {})
            status, detail = error.status_code, f"{request.method[:20]} is not possible here. Use {headers.get('Allow')}."
        case ClientDisconnect():
            status, detail, headers = 400, "The body was cut off.", {}
        case _:
            status, detail, headers = 500, "Something went wrong here. It was logged.", {}  # by the server: Starlette raises it
    problem = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "instance": path,
    }
    return JSONResponse(problem, status, headers, media_type="application/problem+json")
