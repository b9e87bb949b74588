"""The application of the sidecar's API: liveness, state, metrics, webhooks and syncs. `routes.py` has the commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from loguru import logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.history import ACTING_TOKEN
from bunriwiki.model_store.public import public_state
from bunriwiki.model_store.sync_state import SyncState
from bunriwiki.web import problems
from bunriwiki.web.bodies import BodyReader
from bunriwiki.web.clients import Clients
from bunriwiki.web.tokens import TokenGate
from model_sync.admin.commands import Commands
from model_sync.api.errors import HANDLED, as_problem
from model_sync.api.feedback import FeedbackRoutes
from model_sync.api.requests import READ_LIMITS, authorize, client_of, may_see_details, parse, read
from model_sync.api.routes import CommandRoutes
from model_sync.errors import WebhookRejectedError
from model_sync.syncing.requests import Outcome, PendingSync, SyncRequests
from model_sync.triggers.mlflow_webhooks import WebhookVerifier, concerns

MAX_WAIT_SECONDS = 3600.0  # for the outcomes of a sync
POLL_SECONDS = 0.1  # between two checks whether a sync has ended

State = Callable[[], BaseModel | dict[str, Any]]
_OUTCOMES = TypeAdapter(dict[str, Outcome])


class SyncRequest(BaseModel):
    """The body of `POST /sync`: the models (all by default), and whether to wait up to `timeout` seconds for the outcomes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: list[str] | None = Field(default=None, min_length=1)
    force: bool = False
    wait: bool = False
    timeout: float = Field(default=300, gt=0, le=MAX_WAIT_SECONDS)


class _Api:
    """The endpoints. All of them raise RequestError."""

    def __init__(
        self,
        *,
        syncs: SyncRequests,
        state: State,
        gate: TokenGate,
        verifier: WebhookVerifier | None,
        webhook_names: Collection[str],
        metrics: CollectorRegistry,
    ) -> None:
        self._syncs = syncs
        self._state = state
        self._gate = gate
        self._verifier = verifier
        self._webhook_names = webhook_names
        self._metrics = metrics

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("\n")

    async def state(self, request: Request) -> Response:
        details = await may_see_details(request, self._gate)
        state = await run_in_threadpool(self._state)
        if isinstance(state, SyncState) and not details:
            state = public_state(state)
        return JSONResponse(state.model_dump(mode="json") if isinstance(state, BaseModel) else state)

    async def metrics(self, request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await run_in_threadpool(encode, self._metrics), media_type=media_type)

    async def webhook(self, request: Request) -> Response:
        if self._verifier is None:
            raise problems.forbidden("Webhooks are closed here: BUNRIWIKI_WEBHOOK_SECRET is not set.")
        body = await read(request)
        try:
            self._verifier.check(request.headers, body)
        except WebhookRejectedError as error:
            logger.warning("A webhook from {} is rejected with {}: {}", client_of(request), error.status, error.sentence)
            raise problems.RequestError(error.status, error.sentence) from None
        relevant = concerns(body, self._webhook_names)
        if relevant:
            self._syncs.request("webhook")
        return JSONResponse({"sync_requested": relevant}, 202)

    async def sync(self, request: Request) -> Response:
        await authorize(request, self._gate)
        wanted = parse(await read(request), SyncRequest, '{"models": ["yolo"], "wait": true}')
        unknown = [model for model in wanted.models or () if model not in MODELS]
        if unknown:
            raise problems.invalid(f"There is no model {unknown[0][:60]!r}. The models are {', '.join(MODELS)}.")
        logger.info("a sync is requested from {} with the token {}", client_of(request), ACTING_TOKEN.get())
        pending = self._syncs.request("operator", wanted.models, force=wanted.force)
        if not wanted.wait:
            return JSONResponse({"sync_requested": True}, 202)
        outcomes = await _outcomes(pending, wanted.timeout)
        return JSONResponse({"sync_requested": True, "outcomes": _OUTCOMES.dump_python(outcomes, mode="json")})


def make_app(
    syncs: SyncRequests,
    state: State,
    *,
    admin_tokens: Sequence[str],
    verifier: WebhookVerifier | None,
    webhook_names: Collection[str],
    commands: Commands,
    metrics: CollectorRegistry,
    feedback: FeedbackRoutes | None = None,
    clients: Clients | None = None,
) -> Starlette:
    """The ASGI application.

    `state` returns what `GET /state` answers; it is called in threads, as `commands` are. Webhooks lead to a sync if they are
    about one of the registered models `webhook_names`; without a `verifier`, they are rejected. `GET /metrics` returns
    `metrics`, and needs no token. `clients` tells whose address the log has.
    """
    gate = TokenGate(admin_tokens)
    api = _Api(syncs=syncs, state=state, gate=gate, verifier=verifier, webhook_names=webhook_names, metrics=metrics)
    app = Starlette(
        routes=[
            Route("/livez", api.livez),
            Route("/state", api.state),
            Route("/metrics", api.metrics),
            Route("/webhooks/mlflow", api.webhook, methods=["POST"]),
            Route("/sync", api.sync, methods=["POST"]),
            *CommandRoutes(commands, gate).routes(),
            *(feedback.routes() if feedback else ()),
        ],
        exception_handlers=dict.fromkeys(HANDLED, as_problem),
    )
    app.state.clients = clients or Clients()
    app.state.bodies = BodyReader(READ_LIMITS)
    return app


async def _outcomes(pending: PendingSync, seconds: float) -> dict[str, Outcome]:
    """The outcomes of a sync, by polling: a waiting thread would outlive a client that disconnected."""
    try:
        async with asyncio.timeout(seconds):
            while (outcomes := pending.wait(0)) is None:  # noqa: ASYNC110 (the sync ends in another thread)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise problems.deadline_exceeded(
            f"The sync has not ended within {seconds:g} s and goes on. GET /state shows its progress."
        ) from None
    return outcomes
