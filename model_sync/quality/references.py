"""The reference distributions of a version, in a file each: `quality/<model>/<version>.json` in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bunriwiki.artifacts.features import Histograms
from bunriwiki.model_store.files import write_atomically

LIVE_INPUTS = 1000  # that a version must have answered before they are its reference
UNPUBLISHED_SECONDS = 86_400.0  # for which the file of a version that is not in the store is kept: it may be being imported

Kind = Literal["evaluation", "live"]


class Reference(BaseModel):
    """The features of a version's answers in its evaluation, and of its first `LIVE_INPUTS` answers on live traffic."""

    model_config = ConfigDict(frozen=True)

    evaluation: Histograms | None = None
    live: Histograms | None = None

    @property
    def current(self) -> Histograms:
        """What the version is compared with: live traffic, as soon as there was enough of it."""
        return self.live or self.evaluation or {}

    @property
    def kind(self) -> Kind | None:
        """What `current` is; None if there is no reference yet."""
        return "live" if self.live else "evaluation" if self.evaluation else None


class References:
    """The files in `folder`. Only the sidecar writes them; safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()

    def read(self, model: str, version: str) -> Reference:
        """The reference of a version; empty if there is none, or its file is not valid."""
        try:
            return Reference.model_validate_json(self._path(model, version).read_bytes())
        except (OSError, ValidationError):
            return Reference()

    def keep_evaluation(self, model: str, version: str, histograms: Histograms) -> None:
        """A version was evaluated: its reference is new, whatever a version of this name did before. Raises OSError."""
        self._write(model, version, Reference(evaluation=histograms))

    def keep_live(self, model: str, version: str, histograms: Histograms) -> None:
        """Keep the features of a version's first live answers. Raises OSError."""
        self._write(model, version, self.read(model, version).model_copy(update={"live": histograms}))

    def tidy(self, known: Mapping[str, Collection[str]], now: Callable[[], float] = time.time) -> None:
        """Delete the files of versions that are not `known` (by model), unless they are new. Raises OSError."""
        for path in self._folder.glob("*/*.json"):
            unknown = path.stem not in known.get(path.parent.name, ())
            if unknown and now() - path.stat().st_mtime > UNPUBLISHED_SECONDS:
                path.unlink(missing_ok=True)

    def _write(self, model: str, version: str, reference: Reference) -> None:
        path = self._path(model, version)
        with self._writing:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, reference.model_dump_json(exclude_none=True))

    def _path(self, model: str, version: str) -> Path:
        return self._folder / model / f"{version}.json"
