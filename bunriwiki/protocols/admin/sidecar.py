"""The client of the sidecar, which alone carries out commands: requests are forwarded to it, and its responses returned."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass

import httpx
import msgspec

from bunriwiki.web import problems
from bunriwiki.web.bounded_json import check_values
from bunriwiki.web.tokens import TokenGate

CONNECT_SECONDS = 2.0
MODEL_COMMANDS = ("rollback", "pin", "unpin", "pause", "resume", "promote", "abort", "cancel")
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
GRACE_SECONDS = 5.0  # for the response to a sync that took as long as it may


@dataclass(frozen=True, slots=True)
class SidecarResponse:
    """What the sidecar answered."""

    status: int
    body: bytes
    media_type: str


class Sidecar:
    """The sidecar at `url`, if there is one. Only requests that `gate` lets pass are forwarded; a command may take `seconds`.

    `verify` is what the sidecar's certificate is verified with, if `url` begins with https.

    `authorization` is the value of the request's header of that name. All methods but `close` raise RequestError: for a wrong
    token, with status 503 when no sidecar answers, and with 504 when it does not answer in time.
    """

    def __init__(
        self,
        url: str | None,
        gate: TokenGate,
        seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._url = url
        self._gate = gate
        self._seconds = seconds
        self._transport = transport
        self._verify = verify
        self._client: httpx.AsyncClient | None = None

    async def reload(self, authorization: str | None, body: bytes) -> SidecarResponse:
        """Sync with the registries. `body` is a JSON object with the sidecar's `models`, `force`, `wait` and `timeout`.

        Without `wait` the response comes after the sync; without `timeout` the sync may take as long as any command.
        """
        await self._gate.check(authorization, "a reload")
        wanted = {"wait": True, "timeout": self._seconds, **_fields(body)}
        return await self._post("/sync", msgspec.json.encode(wanted), authorization)

    async def command(self, authorization: str | None, model: str, command: str, body: bytes) -> SidecarResponse:
        """`command` is one of `MODEL_COMMANDS`."""
        await self._gate.check(authorization, f"a {command} of {model}")
        return await self._post(f"/models/{model}/{command}", body, authorization)

    async def feedback(self, authorization: str | None, body: bytes) -> SidecarResponse:
        """Feedback on an answer. It needs no token; with a token of the gate it counts as known."""
        return await self._post("/feedback", body, authorization)

    async def load(self, authorization: str | None, model: str) -> None:
        """Sync `model` with its registry. Raises RequestError also if its newest version does not serve afterwards."""
        answer = await self.reload(authorization, json.dumps({"models": [model]}).encode())
        if answer.status != 200:
            raise problems.RequestError(answer.status, str(json.loads(answer.body).get("detail")))
        outcome = json.loads(answer.body)["outcomes"][model]
        if outcome["status"] not in ("promoted", "unchanged"):
            raise problems.broken(f"{model} was not loaded. {outcome['status']}: {outcome['reason']}.")

    async def unload(self, authorization: str | None, model: str) -> None:
        """Always raises RequestError: every model serves at all times."""
        await self._gate.check(authorization, f"an unload of {model}")
        raise problems.broken(
            f"{model} is not unloaded: every model serves at all times. POST /v1/models/{model}/rollback goes back."
        )

    async def close(self) -> None:
        if self._client:
            await self._client.aclose()

    async def _post(self, path: str, body: bytes, authorization: str | None) -> SidecarResponse:
        if self._url is None:
            raise problems.unavailable("This service has no sidecar: set BUNRIWIKI_SYNC_PORT or BUNRIWIKI_SYNC_URL.", 60)
        if self._client is None:
            timeout = httpx.Timeout(self._seconds + GRACE_SECONDS, connect=CONNECT_SECONDS)
            self._client = httpx.AsyncClient(
                base_url=self._url, timeout=timeout, transport=self._transport, verify=self._verify, trust_env=False
            )
        headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
        try:
            answer = await self._client.post(path, content=body, headers=headers)
        except httpx.TimeoutException:
            raise problems.deadline_exceeded(
                "The sidecar has not answered in time. GET /v1/models shows what it is doing."
            ) from None
        except httpx.TransportError:
            raise problems.unavailable(
                f"No sidecar answers at {self._url}. Start it, or correct BUNRIWIKI_SYNC_URL.", 60
            ) from None
        return SidecarResponse(answer.status_code, answer.content, answer.headers.get("content-type", "application/json"))


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, whose values the sidecar reads."""
    check_values(body)
    if not body.strip():
        return {}
    try:
        return FIELDS.decode(body)
    except msgspec.ValidationError:
        raise problems.invalid('The body must be a JSON object like {"models": ["yolo"]}.') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise problems.broken('The body is not valid JSON. Send an object like {"models": ["yolo"]}, or nothing.') from None
