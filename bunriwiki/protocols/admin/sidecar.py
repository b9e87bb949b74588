"""The way to the sidecar, the one place for commands: they are passed on, and its answers back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from bunriwiki.protocols.admin.tokens import AdminGate
from bunriwiki.protocols.handlers import errors

CONNECT_SECONDS = 2.0
LATE = 5.0  # seconds that an answer may come after the look that it waited for


@dataclass(frozen=True, slots=True)
class Passed:
    """What the sidecar answered."""

    status: int
    body: bytes
    media_type: str


class Sidecar:
    """The sidecar at `url`; who calls it goes through `gate` first. A command may take `seconds`."""

    def __init__(self, url: str, gate: AdminGate, seconds: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._gate = gate
        self._seconds = seconds
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def reload(self, authorization: str | None, body: bytes) -> Passed:
        """Look at the registries: `models`, `force`, `wait` (true unless said otherwise) and `timeout` as the sidecar has them.

        Raises RequestError.
        """
        await self._gate.check(authorization)
        wanted = {"wait": True, "timeout": self._seconds, **_object(body)}
        return await self._post("/sync", json.dumps(wanted).encode(), authorization)

    async def command(self, authorization: str | None, model: str, what: str, body: bytes) -> Passed:
        """`what` of rollback, pin and unpin. Raises RequestError."""
        await self._gate.check(authorization)
        return await self._post(f"/models/{model}/{what}", body, authorization)

    async def load(self, authorization: str | None, model: str) -> None:
        """Have the newest version of `model` serve. Raises RequestError when that is not so afterwards."""
        answer = await self.reload(authorization, json.dumps({"models": [model]}).encode())
        if answer.status != 200:
            raise errors.RequestError(answer.status, "Not loaded", str(json.loads(answer.body).get("detail")))
        outcome = json.loads(answer.body)["outcomes"][model]
        if outcome["status"] not in ("promoted", "unchanged"):
            raise errors.broken(f"{model} was not loaded. {outcome['status']}: {outcome['reason']}.")

    async def unload(self, authorization: str | None, model: str) -> None:
        """Raises RequestError: every model serves at all times."""
        await self._gate.check(authorization)
        raise errors.broken(
            f"{model} is not unloaded: every model serves at all times. POST /v1/models/{model}/rollback goes back."
        )

    async def close(self) -> None:
        if self._client:
            await self._client.aclose()

    async def _post(self, path: str, body: bytes, authorization: str | None) -> Passed:
        if self._client is None:
            timeout = httpx.Timeout(self._seconds + LATE, connect=CONNECT_SECONDS)
            self._client = httpx.AsyncClient(base_url=self._url, timeout=timeout, transport=self._transport, trust_env=False)
        headers = {"Authorization": authorization or "", "Content-Type": "application/json"}
        try:
            answer = await self._client.post(path, content=body, headers=headers)
        except httpx.TimeoutException:
            raise errors.deadline_exceeded("The sidecar has not answered in time. GET /v1/models says what it is at.") from None
        except httpx.TransportError:
            raise errors.unavailable(
                f"No sidecar answers at {self._url} (BUNRIWIKI_SYNC_URL), so there is nobody to change what serves.", 60
            ) from None
        return Passed(answer.status_code, answer.content, answer.headers.get("content-type", "application/json"))


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        raise errors.broken('The body is no valid JSON. Send an object like {"models": ["yolo"]}, or nothing.') from None
    if not isinstance(found, dict):
        raise errors.invalid('The body must be a JSON object like {"models": ["yolo"]}.')
    return found
