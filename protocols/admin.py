"""Who may change what serves."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from protocols import errors


class AdminGate:
    """Lets through who has one of `tokens`; with none, nobody."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def check(self, authorization: str | None) -> None:
        """Raises RequestError unless the header `Authorization` has one of the tokens. It takes the same time for all."""
        if not self._tokens:
            raise errors.forbidden("Administration is closed here: BUNRIWIKI_ADMIN_TOKEN is not set.")
        kind, _, given = (authorization or "").partition(" ")
        right = [hmac.compare_digest(given.strip().encode(), token) for token in self._tokens]
        if kind.lower() != "bearer" or not any(right):
            raise errors.unauthorized("Send `Authorization: Bearer <token>` with one of this service's admin tokens.")
