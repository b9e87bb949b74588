"""What the rollout remembers over a restart: `rollout/state.json` in the store. The rollout process alone writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.model_store.files import write_atomically

Phase = Literal["building", "trying", "rolling", "going_back", "done", "rolled_back"]
"""`building`: the image is made. `trying`: one replica of it answers golden samples, and gets no requests of clients.
`rolling`: the replicas are replaced. `going_back`: they are replaced by old ones. `done`, `rolled_back`: how it ended."""

ENDED: tuple[Phase, ...] = ("done", "rolled_back")
KEPT_RESULTS = 50

Cause = Literal["health", "answers", "errors", "latency", "losses", "withdrawn", "cancelled"]
"""Why a rollout went back, as a label of the metrics. `health`: a replica did not become ready in time, or did not stay so.
`losses`: replicas ended by themselves. `withdrawn`: a version was rolled back meanwhile. `cancelled`: by an operator."""


class StateError(Exception):
    """The state cannot be read. The message says why, and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Strict):
    """An image of the service: its name for the engine, and the version of each model that it contains.

    Models that `versions` does not name serve the fallback version of the service.
    """

    name: str = Field(min_length=1)
    versions: dict[str, str] = Field(default_factory=dict)


class Rollout(_Strict):
    """One rollout, of `new` in place of `old` on `wanted` replicas.

    `losses` counts the replicas with the new image that ended by themselves. `tried`: the trial has passed.
    """

    number: int = Field(ge=1)
    new: Image
    old: Image
    wanted: int = Field(ge=1)
    phase: Phase = "building"
    began: AwareDatetime
    ended: AwareDatetime | None = None
    tried: bool = False
    losses: int = 0
    cause: Cause | None = None
    reason: str | None = None
    failed_at: AwareDatetime | None = None

    @property
    def is_over(self) -> bool:
        return self.phase in ENDED


class State(_Strict):
    """The whole file.

    `current` is the last rollout, which may be under way. `results` are the rollouts that ended, the oldest first. `rejected`
    are the images that no rollout brings by itself, because they failed or an operator left them. `started` is the last
    request of an operator that was followed. `waiting` is the step that waits for an operator's approval, `problem` what
    keeps the rollout from its next step. `replaced` replicas have the new image. `at` is the time of the last sign of life, in
    seconds since the epoch.
    """

    format: Literal[1] = 1
    current: Rollout | None = None
    results: tuple[Rollout, ...] = ()
    rejected: tuple[str, ...] = ()
    started: int = 0
    waiting: str | None = None
    problem: str | None = None
    replaced: int = 0
    at: float = 0.0

    @classmethod
    def read(cls, path: Path) -> State:
        """Read the file; empty if it does not exist. Raises StateError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise StateError(f"{path} cannot be read: {error}. Without the file, a rollout begins anew.") from error

    def write(self, path: Path) -> None:
        """Replace the file, atomically and durably. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    def having(self, rollout: Rollout) -> State:
        """A copy in which `rollout` is the current one; if it is over, it is a result as well."""
        results = (*self.results, rollout)[-KEPT_RESULTS:] if rollout.is_over else self.results
        return self.model_copy(update={"current": rollout, "results": results})
