"""A version of a model, and the states that it passes through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """START → LOADING → AVAILABLE → UNLOADING → END, in this order. A load that fails goes from LOADING to END."""

    START = "start"
    LOADING = "loading"
    AVAILABLE = "available"
    UNLOADING = "unloading"
    END = "end"


@dataclass(frozen=True, slots=True)
class ServableId:
    """A model's name and one of its versions."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class ServableState:
    """The state of a version.

    `error` says why the last try to load it failed, while it is LOADING or if it has ended for that reason. In the state
    UNLOADING it says why the unload failed.
    """

    id: ServableId
    state: State
    error: str | None = None
