"""The sidecar's HTTP API: what a webhook or a person may ask for, and the state."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from artifacts.manifest import MODELS, Version
from model_sync.looks import Asked, Looks, Outcome
from model_sync.triggers.mlflow_webhooks import WebhookRefusedError, WebhookVerifier, concerns

MOST_BYTES = 1_000_000  # of a body
READ_SECONDS = 10.0  # for a body
DELAY = 0.5  # seconds until a wrong token is answered
MOST_DELAYED = 32
LONGEST_WAIT = 3600.0  # seconds for the outcomes of a look
STEP = 0.1  # seconds between two questions whether a look has ended
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

State = Callable[[], BaseModel | dict[str, Any]]
_VERSION: TypeAdapter[str] = TypeAdapter(Version)
_OUTCOMES = TypeAdapter(dict[str, Outcome])


@dataclass
class ProblemError(Exception):
    """A request that is answered with an error: an HTTP status, and a sentence that says what to do."""

    status: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


class SyncRequest(BaseModel):
    """The body of `POST /sync`: at which models to look, and whether, and for how many seconds, to wait for the outcomes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: list[str] | None = Field(default=None, min_length=1)
    force: bool = False
    wait: bool = False
    timeout: float = Field(default=300, gt=0, le=LONGEST_WAIT)


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
        if self._delayed >= MOST_DELAYED:
            raise ProblemError(429, "Too many wrong tokens. Wait a moment.", {"Retry-After": "1"})
        logger.warning("{} {!r} with no right token from {}", request.method, request.url.path, _client(request))
        self._delayed += 1
        try:
            await asyncio.sleep(DELAY)
        finally:
            self._delayed -= 1
        detail = "Send `Authorization: Bearer <token>` with one of this service's admin tokens."
        raise ProblemError(401, detail, {"WWW-Authenticate": "Bearer"})


class _Api:
    """The routes' handlers."""

    def __init__(
        self,
        *,
        looks: Looks,
        state: State,
        gate: TokenGate,
        verifier: WebhookVerifier | None,
        webhook_names: Collection[str],
        release: Callable[[str, str], bool],
    ) -> None:
        self._looks = looks
        self._state = state
        self._gate = gate
        self._verifier = verifier
        self._webhook_names = webhook_names
        self._release = release

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("\n")

    async def state(self, _: Request) -> Response:
        state = await run_in_threadpool(self._state)
        return JSONResponse(state.model_dump(mode="json") if isinstance(state, BaseModel) else state)

    async def webhook(self, request: Request) -> Response:
        if self._verifier is None:
            raise ProblemError(403, "Webhooks are closed here: BUNRIWIKI_WEBHOOK_SECRET is not set.")
        body = await _read(request)
        try:
            self._verifier.check(request.headers, body)
        except WebhookRefusedError as error:
            logger.warning("A webhook from {} is refused with {}: {}", _client(request), error.status, error.sentence)
            raise ProblemError(error.status, error.sentence) from None
        looked = concerns(body, self._webhook_names)
        if looked:
            self._looks.look("webhook")
        return JSONResponse({"looked": looked}, 202)

    async def sync(self, request: Request) -> Response:
        await self._gate.check(request)
        wanted = _parse_sync(await _read(request))
        asked = self._looks.look("person", wanted.models, force=wanted.force)
        if not wanted.wait:
            return JSONResponse({"looked": True}, 202)
        outcomes = await _outcomes(asked, wanted.timeout)
        return JSONResponse({"looked": True, "outcomes": _OUTCOMES.dump_python(outcomes, mode="json")})

    async def release(self, request: Request) -> Response:
        await self._gate.check(request)
        model, version = request.path_params["model"], request.path_params["version"]
        # Both become parts of a file's path: anything else than names would lead elsewhere.
        if not (model in MODELS and _is_version(version) and await run_in_threadpool(self._release, model, version)):
            raise ProblemError(404, f"{model[:64]} {version[:64]} is not in quarantine. GET /state says what is.")
        return Response(status_code=204)


def make_app(
    looks: Looks,
    state: State,
    *,
    admin_tokens: Sequence[str],
    verifier: WebhookVerifier | None,
    webhook_names: Collection[str],
    release: Callable[[str, str], bool],
) -> Starlette:
    """The ASGI application.

    `state` says what the sidecar knows, as JSON; `release` lets a model's version out of the quarantine and says whether it was
    in. Both are called in threads. `webhook_names` are the registered models that a webhook may be about.
    """
    api = _Api(
        looks=looks, state=state, gate=TokenGate(admin_tokens), verifier=verifier, webhook_names=webhook_names, release=release
    )
    return Starlette(
        routes=[
            Route("/livez", api.livez),
            Route("/state", api.state),
            Route("/webhooks/mlflow", api.webhook, methods=["POST"]),
            Route("/sync", api.sync, methods=["POST"]),
            Route("/quarantine/{model}/{version}", api.release, methods=["DELETE"]),
        ],
        exception_handlers=dict.fromkeys((ProblemError, HTTPException, ClientDisconnect, Exception), _as_problem),
    )


async def _read(request: Request) -> bytes:
    """The body. Raises ProblemError as soon as it is known to be too large, and when it takes too long."""
    too_large = ProblemError(413, f"The body is larger than {MOST_BYTES} bytes.", {"Connection": "close"})
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MOST_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise ProblemError(408, f"The body did not arrive within {READ_SECONDS:g} s.", {"Connection": "close"}) from None
    return bytes(body)


def _parse_sync(body: bytes) -> SyncRequest:
    if not body.strip():
        return SyncRequest()
    try:
        wanted = SyncRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise ProblemError(400, 'The body is no JSON. Send an object like {"models": ["yolo"], "wait": true}.') from None
        place = ".".join(str(part) for part in first["loc"])[:60] or "the body"
        raise ProblemError(422, f"{place}: {first['msg']}.") from None
    unknown = [model for model in wanted.models or () if model not in MODELS]
    if unknown:
        raise ProblemError(422, f"There is no model {unknown[0][:60]!r}. The models are {', '.join(MODELS)}.")
    return wanted


async def _outcomes(asked: Asked, seconds: float) -> dict[str, Outcome]:
    """What the look led to, asked for now and then: a thread that waits would outlive a client that left."""
    try:
        async with asyncio.timeout(seconds):
            while (outcomes := asked.wait(0)) is None:  # noqa: ASYNC110 (it ends in another thread)
                await asyncio.sleep(STEP)
    except TimeoutError:
        raise ProblemError(504, f"The look has not ended within {seconds:g} s and goes on. GET /state says more.") from None
    return outcomes


def _is_version(text: str) -> bool:
    try:
        _VERSION.validate_python(text)
    except ValidationError:
        return False
    return True


def _client(request: Request) -> str:
    return request.client.host if request.client else "an unknown address"


def _as_problem(request: Request, error: Exception) -> Response:
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
