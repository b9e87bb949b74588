"""What the operators' commands answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)


class RolledBack(_Result):
    """`to` serves instead of `left`; so many `workers` had it in memory at that moment."""

    model: str
    left: str = Field(alias="from")
    to: str
    workers: int
    seconds: float


class Pinned(_Result):
    """The model stays at `version`."""

    model: str
    version: str
    workers: int
    seconds: float


class Unpinned(_Result):
    """The model follows its registry again. `released` are the versions that were held until now."""

    model: str
    was_pinned: bool
    released: tuple[str, ...]


class Removed(_Result):
    """A version that was deleted."""

    model: str
    version: str
    size_bytes: int


class Collected(_Result):
    """The versions that were deleted."""

    removed: tuple[Removed, ...]


class Paused(_Result):
    """The canary `version` keeps its share of the traffic, and is not activated until an operator says so."""

    model: str
    version: str


class Resumed(_Result):
    """The canary `version` may be activated again; `was_paused` says whether that was forbidden until now."""

    model: str
    version: str
    was_paused: bool


class Promoted(_Result):
    """The canary `version` serves; so many `workers` had it in memory at that moment."""

    model: str
    version: str
    workers: int
    seconds: float


class Aborted(_Result):
    """The promotion of `version` was given up. The version is held."""

    model: str
    version: str


class Cancelled(_Result):
    """The import of `version` was cancelled."""

    model: str
    version: str
