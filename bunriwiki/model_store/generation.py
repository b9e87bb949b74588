"""`generation.yaml`: which version of each model should serve. Every worker follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from bunriwiki.artifacts import bounded_yaml
from bunriwiki.artifacts.manifest import Version
from bunriwiki.model_store.files import write_atomically

HEADER = "# Which version of each model serves. Written by the control plane, followed by the workers: docs/model-store.md\n"
MAX_BYTES = 2**20

Trigger = Literal["poll", "sqs", "webhook", "operator", "start", "monitor"]
"""What requested a change: the clock, an SQS message, a webhook, an operator, the start, or the rollout monitor."""


class GenerationError(Exception):
    """The generation file cannot be read. The message says why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Strict):
    """A version that should serve, and why. The version `FALLBACK` is the bundled one."""

    version: Version
    since: AwareDatetime
    source: str = Field(min_length=1, description="Where the version came from.")
    by: Trigger


class Canary(_Strict):
    """How the version in `preparing` receives live traffic before it serves.

    It answers `share` of the batches. With `shadow` it receives copies of them instead: its answers are compared with those of
    the serving version and discarded.
    """

    share: float = Field(gt=0, le=1)
    shadow: bool = False


class CancelledImport(_Strict):
    """An import that an operator cancelled: the version's name in the store, and the digest of what the registry offered."""

    version: Version
    digest: str = Field(min_length=1)


class ModelGeneration(_Strict):
    """The desired state of one model.

    `generation` counts the changes of `serving`; at 0 the fallback version serves, because nothing else was ever promoted.
    `preparing` is loaded beside the serving version, and replaces it once every live worker has it in memory. `previous` is the
    last known good version that served before. `canary` is set while `preparing` receives live traffic.

    Operators decide the rest. Syncs do not change a `pinned` model. The `held` versions were left by a rollback or by an
    aborted promotion: they are not promoted again until a newer version has served or an operator unpins the model. A canary of
    the version `paused` is not activated until an operator says so. An offer with the digest of `cancelled` is imported again
    only when an operator requests a sync.
    """

    generation: int = Field(default=0, ge=0)
    serving: Target | None = None
    previous: Target | None = None
    preparing: Target | None = None
    canary: Canary | None = None
    pinned: bool = False
    held: tuple[Version, ...] = ()
    paused: Version | None = None
    cancelled: CancelledImport | None = None

    @model_validator(mode="after")
    def _counts_what_serves(self) -> Self:
        if (self.serving is None) != (self.generation == 0):
            raise ValueError("generation must be 0 if and only if nothing serves")
        return self


class Generations(_Strict):
    """The whole file. A model that it does not name serves its fallback version."""

    format: Literal[1] = 1
    models: dict[str, ModelGeneration] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Generations:
        """Read the file; empty if it does not exist. Raises GenerationError."""
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise GenerationError(f"{path} cannot be read: {error}") from error

    @classmethod
    def parse(cls, text: bytes) -> Generations:
        """Parse the text of the file. Raises GenerationError."""
        try:
            return cls.model_validate(bounded_yaml.load(text, MAX_BYTES))
        except (ValueError, yaml.YAMLError) as error:  # pydantic's ValidationError is a ValueError
            raise GenerationError(f"generation.yaml is not valid: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file, atomically and durably. Raises OSError."""
        body = self.model_dump(mode="json", exclude_none=True)
        write_atomically(path, HEADER + bounded_yaml.dump(body))

    def of(self, model: str) -> ModelGeneration:
        """The desired state of `model`."""
        return self.models.get(model, ModelGeneration())

    def prepare(self, model: str, target: Target | None) -> Generations:
        """A copy in which `target` is loaded beside what serves; None: nothing is."""
        return self._with(model, self.of(model).model_copy(update={"preparing": target, "canary": None}))

    def start_canary(self, model: str, canary: Canary | None) -> Generations:
        """A copy in which the version in `preparing` receives live traffic; None: the canary is over, and may be activated."""
        return self._with(model, self.of(model).model_copy(update={"canary": canary}))

    def activate(self, model: str, target: Target, *, outgoing_was_good: bool = True, lifts_holds: bool = False) -> Generations:
        """A copy in which `target` serves, in the next generation of `model`.

        The version that served becomes the previous version; without `outgoing_was_good` the old previous version stays.
        `target` is no longer held or paused; with `lifts_holds` no version is held, paused or cancelled any more.
        """
        old = self.of(model)
        previous = old.serving if outgoing_was_good else old.previous
        if previous and previous.version == target.version:
            previous = None
        new = ModelGeneration(
            generation=old.generation + 1,
            serving=target,
            previous=previous,
            pinned=old.pinned,
            held=() if lifts_holds else tuple(version for version in old.held if version != target.version),
            paused=None if lifts_holds or old.paused == target.version else old.paused,
            cancelled=None if lifts_holds else old.cancelled,
        )
        return self._with(model, new)

    def pin(self, model: str, *, pinned: bool) -> Generations:
        """A copy in which `model` is pinned or not."""
        return self._with(model, self.of(model).model_copy(update={"pinned": pinned}))

    def hold(self, model: str, *versions: str) -> Generations:
        """A copy in which exactly these versions of `model` are held."""
        return self._with(model, self.of(model).model_copy(update={"held": versions}))

    def pause(self, model: str, version: str | None) -> Generations:
        """A copy in which a canary of `version` is not activated; None: any canary may be."""
        return self._with(model, self.of(model).model_copy(update={"paused": version}))

    def cancel(self, model: str, cancelled: CancelledImport | None) -> Generations:
        """A copy in which this import of `model` is cancelled; None: none is."""
        return self._with(model, self.of(model).model_copy(update={"cancelled": cancelled}))

    def _with(self, model: str, new: ModelGeneration) -> Generations:
        return self.model_copy(update={"models": {**self.models, model: new}})
