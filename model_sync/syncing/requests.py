"""Requests for syncs, and their outcomes. A trigger only requests a sync: it carries no facts, the registry's state decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from bunriwiki.model_store.generation import Trigger

SyncStatus = Literal["unchanged", "promoted", "rejected", "undecided", "pinned", "held", "cancelled", "unreachable", "failed"]
"""`unchanged`: nothing new. `promoted`: another version serves. `rejected`: the version is in quarantine. `undecided`: the
machine was too busy for a gate, which is tried again. `pinned`: an operator pinned the model to a version. `held`: an operator
rolled the version back, or aborted its promotion. `cancelled`: an operator cancelled its import. `unreachable`: the registry
could not be reached. `failed`: something on this machine is in the way (a full disk, for example)."""

RETRYABLE: frozenset[SyncStatus] = frozenset({"unreachable", "failed"})  # a later sync may succeed


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of syncing one model. `retry_seconds`: when an undecided import is tried again, from now."""

    model: str
    status: SyncStatus
    version: str | None = None
    reason: str | None = None
    retry_seconds: float | None = None


class PendingSync(Protocol):
    """A requested sync."""

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        """The outcome by model of a sync that started after this request; None if there is none within `seconds`."""


class SyncRequests(Protocol):
    """Accepts requests for syncs. Safe to use from many threads; simultaneous requests share one sync."""

    def request(self, by: Trigger, models: Collection[str] | None = None, *, force: bool = False) -> PendingSync:
        """Request a sync of `models`, or of all models; returns at once.

        With `force`, failed gates are warnings; the history records that.
        """
