"""`history.jsonl`: what happened to which version, one JSON object per line. It is only appended to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from bunriwiki.model_store.files import sync_folder
from bunriwiki.model_store.generation import Trigger

# The id of the admin token on whose behalf the current thread or task changes something; None outside such a request.
ACTING_TOKEN: ContextVar[str | None] = ContextVar("ACTING_TOKEN", default=None)

Kind = Literal[
    "published", "activated", "abandoned", "undecided", "quarantined", "released", "removed", "pinned", "unpinned", "held",
    "paused", "resumed", "promoted", "cancelled", "rolled_out", "rollout_failed", "rollout_command",
]  # fmt: skip


class Event(BaseModel):
    """What happened.

    `published`: a version is in the store; `seconds` is the duration of each phase of its import, and if it was `forced`,
    `reason` names the gates that it did not pass. `activated`: it serves from now on, in `generation`, instead of `previous`;
    so many `workers` had it prepared. `abandoned`: it was being prepared and does not serve, for `reason`. `undecided`: its
    import found `reason`, of which the machine may be the cause, and is tried again. `quarantined`: it must not go live.
    `released`: it may again. `removed`: it was deleted by the garbage collection. `held`: a rollback left it, or an operator
    aborted its promotion, and syncs do not promote it. `paused`, `resumed`, `promoted`: an operator paused its canary, resumed
    it, or had it activated before its end. `cancelled`: an operator cancelled its import. `rolled_out`: every replica has an
    image with the version, `source`. `rollout_failed`: the replicas have the old image again, for `reason`.
    `rollout_command`: an operator gave the command `reason` about the rollout. The number of the rollout is `rollout`.
    `cause` is the check that a quarantined version failed, as a label of the metrics. `token` is the id of the admin token
    that an operator acted with.
    """

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    kind: Kind
    model: str
    version: str | None = None
    generation: int | None = None
    previous: str | None = None
    source: str | None = None
    by: Trigger | None = None
    workers: int | None = None
    seconds: dict[str, float] | None = None
    forced: bool | None = None
    reason: str | None = None
    cause: str | None = None
    rollout: int | None = None
    token: str | None = None


class History:
    """The file at `path`. Only the writer appends to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: Event) -> None:
        """Append a line, durably. A line that a dead writer left unfinished is ended first. Raises OSError."""
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        with self._path.open("ab+") as stream:
            size = stream.tell()
            if size:
                stream.seek(size - 1)
                if stream.read(1) != b"\n":
                    line = b"\n" + line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if not size:
            sync_folder(self._path.parent)

    def read(self, model: str | None = None) -> Iterator[Event]:
        """All events, or those of one model, oldest first. Unfinished lines are skipped."""
        try:
            stream = self._path.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        with stream:
            for line in stream:
                try:
                    event = Event.model_validate_json(line)
                except ValidationError:
                    continue
                if model in (None, event.model):
                    yield event
