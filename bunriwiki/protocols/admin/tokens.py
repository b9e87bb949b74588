"""Who may change what serves."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence

from loguru import logger

from bunriwiki.protocols.handlers import errors

DELAY = 0.5  # seconds until a wrong token is answered
MAX_DELAYED = 32  # answers that wait so; one more is rejected at once


class AdminGate:
    """Lets through who has one of `tokens`; with none, nobody. The right token never waits."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]
        self._delayed = 0

    async def check(self, authorization: str | None) -> None:
        """Raises RequestError unless the header `Authorization` has one of the tokens. Comparing takes the same time always."""
        if not self._tokens:
            raise errors.forbidden("Administration is closed here: BUNRIWIKI_ADMIN_TOKEN is not set.")
        kind, _, given = (authorization or "").partition(" ")
        # Headers are read as Latin-1: these are the bytes that came.
        sent = given.strip().encode("latin-1", "replace")
        right = [hmac.compare_digest(sent, token) for token in self._tokens]
        if kind.lower() == "bearer" and any(right):
            return
        if self._delayed >= MAX_DELAYED:
            raise errors.too_many("Too many wrong tokens. Wait a moment.")
        logger.warning("an administration call came without the right token")
        self._delayed += 1
        try:
            await asyncio.sleep(DELAY)
        finally:
            self._delayed -= 1
        raise errors.unauthorized("Send `Authorization: Bearer <token>` with one of this service's admin tokens.")
