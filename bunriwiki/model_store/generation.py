"""`generation.yaml`: which version of each model should serve. The one truth that every worker follows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from bunriwiki.artifacts.manifest import Version
from bunriwiki.model_store.files import write_atomically

HEADER = "# Which version of each model serves. The control plane writes it, the workers follow it: docs/model-store.md\n"

Trigger = Literal["poll", "sqs", "webhook", "operator", "start", "monitor"]
"""Who wanted a change: the clock, a message, a webhook, a person, the start, or the watch over a new version."""


class GenerationError(Exception):
    """The generation file cannot be read. The message says what is wrong with it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Strict):
    """A version, and how it came to be aspired."""

    version: Version
    since: AwareDatetime
    source: str = Field(min_length=1, description="Where the version came from.")
    by: Trigger


class Canary(_Strict):
    """How the version in `preparing` meets live traffic before it serves.

    The gateway has it answer `share` of the batches. `shadow`: it gets copies of them, and its answers are compared with those
    of the version that serves, and thrown away.
    """

    share: float = Field(gt=0, le=1)
    shadow: bool = False


class ModelGeneration(_Strict):
    """What is aspired of one model.

    `generation` counts the changes of `serving`; at 0 nothing of the store serves yet. `preparing` is to be loaded beside it,
    and takes its place when every live worker has it. `previous` served before: the last known good version. A `pinned` model
    is not changed by polling. The versions that are `held` were left by a rollback, and are not aspired again until another
    one was, or a person unpins. `canary` is there while `preparing` is tried on live traffic.
    """

    generation: int = Field(default=0, ge=0)
    serving: Target | None = None
    previous: Target | None = None
    preparing: Target | None = None
    canary: Canary | None = None
    pinned: bool = False
    held: tuple[Version, ...] = ()

    @model_validator(mode="after")
    def _counts_what_serves(self) -> Self:
        if (self.serving is None) != (self.generation == 0):
            raise ValueError("generation is 0 exactly as long as nothing serves")
        return self


class Generations(_Strict):
    """The whole file, by model. What is not named serves from elsewhere."""

    format: Literal[1] = 1
    models: dict[str, ModelGeneration] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Generations:
        """Read the file; none means that nothing was ever aspired. Raises GenerationError."""
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise GenerationError(f"{path} cannot be read: {error}") from error

    @classmethod
    def parse(cls, text: bytes) -> Generations:
        """What the file's text says. Raises GenerationError."""
        try:
            return cls.model_validate(yaml.safe_load(text))
        except (ValueError, yaml.YAMLError) as error:  # pydantic's ValidationError is a ValueError
            raise GenerationError(f"generation.yaml cannot be followed: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file, at once and durably."""
        body = self.model_dump(mode="json", exclude_none=True)
        write_atomically(path, HEADER + yaml.safe_dump(body, allow_unicode=True, sort_keys=False, width=120))

    def of(self, model: str) -> ModelGeneration:
        """What is aspired of `model`."""
        return self.models.get(model, ModelGeneration())

    def prepare(self, model: str, target: Target | None) -> Generations:
        """These, with `target`, or nothing, to be loaded beside what serves."""
        return self._with(model, self.of(model).model_copy(update={"preparing": target, "canary": None}))

    def start_canary(self, model: str, canary: Canary | None) -> Generations:
        """These, with the version in `preparing` meeting live traffic so, or no longer."""
        return self._with(model, self.of(model).model_copy(update={"canary": canary}))

    def activate(self, model: str, target: Target, *, outgoing_was_good: bool = True) -> Generations:
        """These, with `target` serving in the next generation of `model`.

        What served until now is its previous version then; if that was no good, the one before stays. What serves is not held.
        """
        old = self.of(model)
        previous = old.serving if outgoing_was_good else old.previous
        if previous and previous.version == target.version:
            previous = None
        held = tuple(version for version in old.held if version != target.version)
        new = ModelGeneration(generation=old.generation + 1, serving=target, previous=previous, pinned=old.pinned, held=held)
        return self._with(model, new)

    def pin(self, model: str, *, pinned: bool) -> Generations:
        """These, with `model` pinned or not."""
        return self._with(model, self.of(model).model_copy(update={"pinned": pinned}))

    def hold(self, model: str, *versions: str) -> Generations:
        """These, with exactly these versions of `model` held."""
        return self._with(model, self.of(model).model_copy(update={"held": versions}))

    def _with(self, model: str, new: ModelGeneration) -> Generations:
        return self.model_copy(update={"models": {**self.models, model: new}})
