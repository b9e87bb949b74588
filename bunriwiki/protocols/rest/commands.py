"""The endpoints that change what serves: the sidecar carries the commands out."""

from __future__ import annotations

import json
from functools import partial

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.protocols.admin.sidecar import MODEL_COMMANDS, Sidecar, SidecarResponse
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.web import problems

MAX_BODY_BYTES = 10_000


class CommandRoutes:
    """`POST /reload_model`, `/feedback` and `/v1/models/{model}/<command>`. All endpoints raise RequestError."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def routes(self) -> list[Route]:
        commands = [
            Route("POST", f"/v1/models/{{model}}/{command}", partial(self._command, command), MAX_BODY_BYTES)
            for command in MODEL_COMMANDS
        ]
        return [
            Route("POST", "/reload_model", self._reload, MAX_BODY_BYTES),
            Route("POST", "/feedback", self._feedback, MAX_BODY_BYTES),
            *commands,
        ]

    async def _reload(self, request: Request) -> Response:
        return _response(await self._sidecar.reload(request.headers.get("authorization"), request.body))

    async def _feedback(self, request: Request) -> Response:
        return _response(await self._sidecar.feedback(request.headers.get("authorization"), request.body))

    async def _command(self, command: str, request: Request) -> Response:
        model = request.path_params["model"]
        if model not in MODELS:
            raise problems.not_found(f"There is no model {model[:70]!r}. The models are {', '.join(MODELS)}.")
        return _response(await self._sidecar.command(request.headers.get("authorization"), model, command, request.body))


def _response(answer: SidecarResponse) -> Response:
    """The sidecar's answer. Raises RequestError for a problem, so that it has this request's path and id."""
    if answer.media_type == problems.MEDIA_TYPE:
        raise problems.RequestError(answer.status, str(json.loads(answer.body).get("detail")))
    return Response(answer.body, answer.status, answer.media_type)
