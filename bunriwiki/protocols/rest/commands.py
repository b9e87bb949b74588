"""The routes that change what serves. They pass on to the sidecar."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.protocols.admin.sidecar import Passed, Sidecar
from bunriwiki.protocols.handlers import errors

RELOAD = "/reload_model"
COMMAND = re.compile(r"/v1/models/([^/]+)/(rollback|pin|unpin)")
TEMPLATES = [RELOAD, *(f"/v1/models/{{model}}/{what}" for what in ("rollback", "pin", "unpin"))]
MAX_BYTES = 10_000  # of a body


class CommandRoutes:
    """`POST /reload_model` and `POST /v1/models/{model}/rollback|pin|unpin`."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    @staticmethod
    def template(path: str) -> str | None:
        """The route of a path; None where it is not one of these."""
        if path == RELOAD:
            return RELOAD
        found = COMMAND.fullmatch(path)
        return f"/v1/models/{{model}}/{found[2]}" if found else None

    async def answer(self, path: str, headers: Headers, body: bytes) -> Passed:
        """What the sidecar says. Raises RequestError."""
        authorization = headers.get("authorization")
        found = COMMAND.fullmatch(path)
        if found is None:
            return await self._sidecar.reload(authorization, body)
        model, what = found.groups()
        if model not in MODELS:
            raise errors.not_found(f"There is no model {model[:70]!r}. There are yolo, kcbert and sentiment.")
        return await self._sidecar.command(authorization, model, what, body)
