"""The sidecar's HTTP API: what a webhook or a person may ask for, and the state. `command_routes.py` has the commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bunriwiki.artifacts.manifest import MODELS
from model_sync.admin.commands import Commands
from model_sync.api.routes import CommandRoutes
from model_sync.api.web import ProblemError, TokenGate, as_problem, client_of, parse, read
from model_sync.errors import WebhookRejectedError
from model_sync.syncing.requests import Outcome, PendingSync, SyncRequests
from model_sync.triggers.mlflow_webhooks import WebhookVerifier, concerns

LONGEST_WAIT = 3600.0  # seconds for the outcomes of a look
STEP = 0.1  # seconds between two questions whether a look has ended

State = Callable[[], BaseModel | dict[str, Any]]
_OUTCOMES = TypeAdapter(dict[str, Outcome])


class SyncRequest(BaseModel):
    """The body of `POST /sync`: at which models to look, and whether, and for how many seconds, to wait for the outcomes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: list[str] | None = Field(default=None, min_length=1)
    force: bool = False
    wait: bool = False
    timeout: float = Field(default=300, gt=0, le=LONGEST_WAIT)


class _Api:
    """The routes' handlers."""

    def __init__(
        self,
        *,
        syncs: SyncRequests,
        state: State,
        gate: TokenGate,
        verifier: WebhookVerifier | None,
        webhook_names: Collection[str],
    ) -> None:
        self._syncs = syncs
        self._state = state
        self._gate = gate
        self._verifier = verifier
        self._webhook_names = webhook_names

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("\n")

    async def state(self, _: Request) -> Response:
        state = await run_in_threadpool(self._state)
        return JSONResponse(state.model_dump(mode="json") if isinstance(state, BaseModel) else state)

    async def webhook(self, request: Request) -> Response:
        if self._verifier is None:
            raise ProblemError(403, "Webhooks are closed here: BUNRIWIKI_WEBHOOK_SECRET is not set.")
        body = await read(request)
        try:
            self._verifier.check(request.headers, body)
        except WebhookRejectedError as error:
            logger.warning("A webhook from {} is rejected with {}: {}", client_of(request), error.status, error.sentence)
            raise ProblemError(error.status, error.sentence) from None
        looked = concerns(body, self._webhook_names)
        if looked:
            self._syncs.request("webhook")
        return JSONResponse({"sync_requested": looked}, 202)

    async def sync(self, request: Request) -> Response:
        await self._gate.check(request)
        wanted = parse(await read(request), SyncRequest, '{"models": ["yolo"], "wait": true}')
        unknown = [model for model in wanted.models or () if model not in MODELS]
        if unknown:
            raise ProblemError(422, f"There is no model {unknown[0][:60]!r}. The models are {', '.join(MODELS)}.")
        asked = self._syncs.request("operator", wanted.models, force=wanted.force)
        if not wanted.wait:
            return JSONResponse({"sync_requested": True}, 202)
        outcomes = await _outcomes(asked, wanted.timeout)
        return JSONResponse({"sync_requested": True, "outcomes": _OUTCOMES.dump_python(outcomes, mode="json")})


def make_app(
    syncs: SyncRequests,
    state: State,
    *,
    admin_tokens: Sequence[str],
    verifier: WebhookVerifier | None,
    webhook_names: Collection[str],
    commands: Commands,
) -> Starlette:
    """The ASGI application.

    `state` says what the sidecar knows, as JSON; it is called in threads, as `commands` are. `webhook_names` are the registered
    models that a webhook may be about.
    """
    gate = TokenGate(admin_tokens)
    api = _Api(syncs=syncs, state=state, gate=gate, verifier=verifier, webhook_names=webhook_names)
    return Starlette(
        routes=[
            Route("/livez", api.livez),
            Route("/state", api.state),
            Route("/webhooks/mlflow", api.webhook, methods=["POST"]),
            Route("/sync", api.sync, methods=["POST"]),
            *CommandRoutes(commands, gate).routes(),
        ],
        exception_handlers=dict.fromkeys((ProblemError, HTTPException, ClientDisconnect, Exception), as_problem),
    )


async def _outcomes(asked: PendingSync, seconds: float) -> dict[str, Outcome]:
    """What the look led to, asked for now and then: a thread that waits would outlive a client that left."""
    try:
        async with asyncio.timeout(seconds):
            while (outcomes := asked.wait(0)) is None:  # noqa: ASYNC110 (it ends in another thread)
                await asyncio.sleep(STEP)
    except TimeoutError:
        raise ProblemError(504, f"The look has not ended within {seconds:g} s and goes on. GET /state says more.") from None
    return outcomes
