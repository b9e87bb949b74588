"""A client of the running sidecar's HTTP API."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from bunriwiki.model_store.history import Event
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import StoreStatus
from bunriwiki.model_store.sync_state import SyncState
from model_sync.admin.image_rollout_commands import ImageRolloutCommand
from model_sync.admin.names import checked_version
from model_sync.admin.results import (
    Aborted,
    Cancelled,
    Collected,
    Paused,
    Pinned,
    Promoted,
    Resumed,
    RolledBack,
    Unpinned,
)
from model_sync.admin.status import SHOWN
from model_sync.api.routes import HistoryAnswer
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.settings import is_here
from model_sync.cli.waiting import run_with_progress
from model_sync.cli.words import Words
from model_sync.rollout.status import RolloutStatus
from model_sync.syncing.requests import Outcome

# Timeouts.
CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0  # for requests that change nothing
COMMAND_SECONDS = 600.0  # for commands, during which workers may load a version
SYNC_SECONDS = 3600.0  # for a sync, with its downloads and compilations
EXITS = {400: Exit.USAGE, 401: Exit.USAGE, 403: Exit.USAGE, 404: Exit.REJECTED, 409: Exit.REJECTED, 422: Exit.USAGE}

_OUTCOMES = TypeAdapter(dict[str, Outcome])
SyncProgress = Callable[[SyncState], None]
"""Called repeatedly during a sync with the state of the sidecar."""
ModelT = TypeVar("ModelT", bound=BaseModel)


class Remote:
    """The sidecar at `url`. Every method but `probe` raises CliError if it rejects the request or cannot be reached."""

    def __init__(
        self,
        url: str,
        token: str,
        words: Words,
        transport: httpx.BaseTransport | None = None,
        *,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._url = url
        self._words = words
        self._client = httpx.Client(
            base_url=url,
            headers={b"Authorization": f"Bearer {token}".encode()} if token else {},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not is_here(url),  # no proxy for requests to this machine
            transport=transport,
            verify=verify,
        )

    def close(self) -> None:
        self._client.close()

    def probe(self) -> Literal["sidecar", "other", "silent", "nothing"]:
        """What answers at the URL: a sidecar, another program, nothing in time (`silent`), or nothing listens (`nothing`)."""
        request = self._client.build_request("GET", "/state")
        request.headers.pop("Authorization", None)  # anybody may ask, and a wrong token is the next command's error
        try:
            SyncState.model_validate(self._client.send(request).json())
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return "nothing"
        except (httpx.TimeoutException, httpx.TransportError):
            return "silent"
        except ValueError:  # ValidationError and JSONDecodeError are ValueErrors
            return "other"
        return "sidecar"

    def status(self) -> StoreStatus:
        return self._call(StoreStatus, "GET", "/status")

    def history(self, model: str | None = None, last: int = SHOWN) -> list[Event]:
        query = {"last": last, **({"model": model} if model else {})}
        return self._call(HistoryAnswer, "GET", "/history", params=query).events

    def rollback(self, model: str, version: str | None = None) -> RolledBack:
        return self._call(RolledBack, "POST", f"/models/{model}/rollback", json={"version": version}, timeout=COMMAND_SECONDS)

    def pin(self, model: str, version: str | None = None) -> Pinned:
        return self._call(Pinned, "POST", f"/models/{model}/pin", json={"version": version}, timeout=COMMAND_SECONDS)

    def unpin(self, model: str) -> Unpinned:
        return self._call(Unpinned, "POST", f"/models/{model}/unpin")

    def pause(self, model: str) -> Paused:
        return self._call(Paused, "POST", f"/models/{model}/pause")

    def resume(self, model: str) -> Resumed:
        return self._call(Resumed, "POST", f"/models/{model}/resume")

    def promote(self, model: str) -> Promoted:
        return self._call(Promoted, "POST", f"/models/{model}/promote", timeout=COMMAND_SECONDS)

    def abort(self, model: str) -> Aborted:
        return self._call(Aborted, "POST", f"/models/{model}/abort")

    def cancel(self, model: str) -> Cancelled:
        return self._call(Cancelled, "POST", f"/models/{model}/cancel", timeout=COMMAND_SECONDS)

    def quarantine(self, model: str, version: str, reason: str) -> Quarantined:
        body = {"model": model, "version": version, "reason": reason}
        return self._call(Quarantined, "POST", "/quarantine", json=body)

    def release(self, model: str, version: str) -> None:
        self._request("DELETE", f"/quarantine/{model}/{checked_version(version)}")

    def gc(self) -> Collected:
        return self._call(Collected, "POST", "/gc", timeout=COMMAND_SECONDS)

    def image_rollout_status(self) -> RolloutStatus:
        return self._call(RolloutStatus, "GET", "/rollout")

    def image_rollout(self, command: ImageRolloutCommand) -> RolloutStatus:
        return self._call(RolloutStatus, "POST", f"/rollout/{command}")

    def sync(
        self, models: Sequence[str] | None, *, force: bool, wait: bool, progress: SyncProgress
    ) -> dict[str, Outcome] | None:
        body = {"models": models, "force": force, "wait": wait, "timeout": SYNC_SECONDS}

        def sync() -> httpx.Response:
            return self._request("POST", "/sync", json=body, timeout=SYNC_SECONDS + READ_SECONDS)

        if not wait:
            sync()
            return None

        def show_state() -> None:
            with contextlib.suppress(CliError):  # if the sidecar cannot be reached, the sync itself fails
                progress(self._call(SyncState, "GET", "/state"))

        answer = run_with_progress(sync, show_state)
        return _OUTCOMES.validate_python(answer.json()["outcomes"])

    def _call(self, kind: type[ModelT], method: str, path: str, **request: Any) -> ModelT:
        answer = self._request(method, path, **request)
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise CliError(Exit.FAILED, self._words("remote.other_version", url=self._url, error=error)) from error

    def _request(self, method: str, path: str, *, timeout: float = READ_SECONDS, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS), **request)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise CliError(Exit.UNREACHABLE, self._words("remote.lost", url=self._url, error=reason)) from error
        if answer.is_success:
            return answer
        try:
            sentence = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            sentence = self._words("remote.status", url=self._url, status=answer.status_code)
        raise CliError(EXITS.get(answer.status_code, Exit.FAILED), sentence)
