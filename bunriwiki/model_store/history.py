"""`history.jsonl`: what happened to which version, a JSON object a line, only ever added to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from bunriwiki.model_store.files import sync_folder
from bunriwiki.model_store.generation import Trigger

Kind = Literal["published", "activated", "abandoned", "quarantined", "released", "removed", "pinned", "unpinned", "held"]


class Event(BaseModel):
    """What happened.

    `published`: a version is in the store; `seconds` is what each phase of its import took, and where it was `forced`, `reason`
    has the gates that it did not pass. `activated`: it serves from here on, in `generation`, instead of `previous`; `workers`
    had it prepared. `abandoned`: it was to serve, and does not, for `reason`. `quarantined` and `released`: it must not go
    live; it may again. `removed`: deleted to make room. `held`: a rollback left it, and polls do not bring it back.
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


class History:
    """The file at `path`. Only the writer adds to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: Event) -> None:
        """Add a line, durably. One that a dead writer left unfinished is ended first, so that it spoils no other."""
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
        """All events, or those of one model, the oldest first. A line that was never finished is passed over."""
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
