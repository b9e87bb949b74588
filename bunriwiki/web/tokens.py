"""Who may change what serves: bearer tokens of administrators."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

from loguru import logger

from bunriwiki.web import problems
from bunriwiki.web.clients import CLIENT

DELAY_SECONDS = 0.5  # before a wrong token is answered
MAX_DELAYED = 32  # answers that are delayed at a time; further wrong tokens are rejected at once
ID_SALT = b"bunriwiki token id"


@lru_cache(maxsize=64)
def token_id(token: str) -> str:
    """Eight hex digits that name a token in logs and in the history, without revealing it.

    Whoever reads them could try guesses against them, so each try takes a while: about 50 ms and 16 MB.
    """
    return hashlib.scrypt(token.encode(), salt=ID_SALT, n=2**14, r=8, p=1, dklen=4).hex()


class TokenGate:
    """Lets a request pass that carries one of `tokens`; with no tokens, no request passes.

    Guessing is slow: a wrong token is answered after a delay, and only `MAX_DELAYED` of them are delayed at a time. A right
    token is never delayed, so guesses of others cannot lock an administrator out.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = {token.encode(): token for token in tokens if token}
        self._delayed = 0

    async def check(self, authorization: str | None, request: str) -> str:
        """Check the value of the header `Authorization`, and return its token. `request` describes the request in the log.

        Raises RequestError with status 401, 403 (no tokens are set) or 429 (too many wrong tokens). The time of the comparison
        does not depend on the token.
        """
        if not self._tokens:
            raise problems.forbidden("Administration is closed here: BUNRIWIKI_ADMIN_TOKEN is not set.")
        scheme, _, given = (authorization or "").partition(" ")
        sent = given.strip().encode("latin-1", "replace")  # the bytes that were sent: headers are decoded as Latin-1
        matches = [text for token, text in self._tokens.items() if hmac.compare_digest(sent, token)]
        if scheme.lower() == "bearer" and matches:
            return matches[0]
        if self._delayed >= MAX_DELAYED:
            raise problems.too_many("Too many wrong tokens. Wait a moment.")
        logger.warning("Rejected {} from {}: no valid admin token", request, CLIENT.get())
        self._delayed += 1
        try:
            await asyncio.sleep(DELAY_SECONDS)
        finally:
            self._delayed -= 1
        raise problems.unauthorized("Send `Authorization: Bearer <token>` with one of this service's admin tokens.")
