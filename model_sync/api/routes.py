"""The routes of the sidecar's API for the commands of operators. Status and history need no token, but their
details do; all else needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bunriwiki.model_store.history import Event
from bunriwiki.model_store.public import public_event, public_status
from bunriwiki.web import problems
from bunriwiki.web.tokens import TokenGate
from model_sync.admin.commands import Commands
from model_sync.admin.image_rollout_commands import COMMANDS, ImageRolloutCommand
from model_sync.admin.status import SHOWN
from model_sync.api.requests import authorize, invalid, may_see_details, parse, read
from model_sync.errors import CommandError

MAX_EVENTS = 10_000  # in an answer
STATUS = {"invalid": 422, "unknown": 404, "failed": 500}  # by the kind of the command's error; other kinds are conflicts

ResultT = TypeVar("ResultT")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VersionRequest(_Body):
    """The body of `POST /models/{model}/rollback` (by default to the previous version) and `.../pin` (the serving version)."""

    version: str | None = None


class QuarantineRequest(_Body):
    """The body of `POST /quarantine`."""

    model: str
    version: str
    reason: str = Field(min_length=1, max_length=500)


class HistoryRequest(BaseModel):
    """The query of `GET /history`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    last: int = Field(default=SHOWN, ge=1, le=MAX_EVENTS)


class HistoryAnswer(BaseModel):
    """The answer of `GET /history`, the oldest event first."""

    events: list[Event]


class CommandRoutes:
    """The endpoints of `commands`, which run in threads. Those that change something require a token of `gate`."""

    def __init__(self, commands: Commands, gate: TokenGate) -> None:
        self._commands = commands
        self._gate = gate

    def routes(self) -> list[Route]:
        return [
            Route("/status", self.status),
            Route("/history", self.history),
            Route("/models/{model}/rollback", self.rollback, methods=["POST"]),
            Route("/models/{model}/pin", self.pin, methods=["POST"]),
            *(self._about_a_model(name, command) for name, command in self._plain_commands().items()),
            Route("/quarantine", self.quarantine, methods=["POST"]),
            Route("/quarantine/{model}/{version}", self.release, methods=["DELETE"]),
            Route("/gc", self.gc, methods=["POST"]),
            Route("/rollout", self.image_rollout_status),
            *(self._about_the_rollout(command) for command in COMMANDS),
        ]

    async def status(self, request: Request) -> Response:
        details = await may_see_details(request, self._gate)
        status = await _do(self._commands.status)
        return _json(status if details else public_status(status))

    async def history(self, request: Request) -> Response:
        details = await may_see_details(request, self._gate)
        wanted = _parse_query(request.query_params)
        events = await _do(self._commands.history, wanted.model, wanted.last)
        return _json(HistoryAnswer(events=events if details else [public_event(event) for event in events]))

    async def rollback(self, request: Request) -> Response:
        await authorize(request, self._gate)
        wanted = parse(await read(request), VersionRequest, '{"version": "v1"}')
        return _json(await _do(self._commands.rollback, request.path_params["model"], wanted.version))

    async def pin(self, request: Request) -> Response:
        await authorize(request, self._gate)
        wanted = parse(await read(request), VersionRequest, '{"version": "v1"}')
        return _json(await _do(self._commands.pin, request.path_params["model"], wanted.version))

    def _plain_commands(self) -> dict[str, Callable[[str], BaseModel]]:
        """The commands that take a model and nothing else."""
        commands = self._commands
        return {
            "unpin": commands.unpin,
            "pause": commands.pause,
            "resume": commands.resume,
            "promote": commands.promote,
            "abort": commands.abort,
            "cancel": commands.cancel,
        }

    def _about_a_model(self, name: str, command: Callable[[str], BaseModel]) -> Route:
        async def endpoint(request: Request) -> Response:
            await authorize(request, self._gate)
            return _json(await _do(command, request.path_params["model"]))

        return Route(f"/models/{{model}}/{name}", endpoint, methods=["POST"])

    async def image_rollout_status(self, request: Request) -> Response:
        await authorize(request, self._gate)
        return _json(await _do(self._commands.image_rollout_status))

    def _about_the_rollout(self, command: ImageRolloutCommand) -> Route:
        async def endpoint(request: Request) -> Response:
            await authorize(request, self._gate)
            return _json(await _do(self._commands.image_rollout, command))

        return Route(f"/rollout/{command}", endpoint, methods=["POST"])

    async def quarantine(self, request: Request) -> Response:
        await authorize(request, self._gate)
        wanted = parse(await read(request), QuarantineRequest, '{"model": "yolo", "version": "v1", "reason": "it is slow"}')
        return _json(await _do(self._commands.quarantine, wanted.model, wanted.version, wanted.reason), 201)

    async def release(self, request: Request) -> Response:
        await authorize(request, self._gate)
        model, version = request.path_params["model"], request.path_params["version"]
        await _do(self._commands.release, model, version, status={**STATUS, "invalid": 404})  # they are part of the path
        return Response(status_code=204)

    async def gc(self, request: Request) -> Response:
        await authorize(request, self._gate)
        return _json(await _do(self._commands.gc))


async def _do(command: Callable[..., ResultT], *arguments: object, status: Mapping[str, int] = STATUS) -> ResultT:
    """What `command` returns, from a thread. Raises RequestError for a CommandError, with a status of `status` by its kind."""
    try:
        return await run_in_threadpool(command, *arguments)
    except CommandError as error:
        raise problems.RequestError(status.get(error.kind, 409), error.sentence) from None


def _json(content: BaseModel, status: int = 200) -> Response:
    return JSONResponse(content.model_dump(mode="json"), status)


def _parse_query(query: Mapping[str, Any]) -> HistoryRequest:
    try:
        return HistoryRequest.model_validate(dict(query))
    except ValidationError as error:
        raise invalid(error, "the query") from None
