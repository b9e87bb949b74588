"""What a trigger may ask for: a look. It carries no truth; what is found in the registry decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from bunriwiki.model_store.generation import Asker

Verdict = Literal["unchanged", "swapped", "refused", "pinned", "held", "unreachable", "failed"]
"""`unchanged`: nothing new. `swapped`: another version serves. `refused`: a version is in quarantine. `pinned`: a person holds
the model. `held`: a rollback left the version. `unreachable`: the registry could not be asked. `failed`: something here is in
the way (a full disk, say)."""

LATER: frozenset[Verdict] = frozenset({"unreachable", "failed"})  # what another look may mend


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look at one model led to."""

    model: str
    verdict: Verdict
    version: str | None = None
    reason: str | None = None


class Asked(Protocol):
    """A look that was asked for."""

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        """The outcome by model of a look that began after this was asked for; None when it is not there within `seconds`."""


class Looks(Protocol):
    """Whoever looks. Safe to use from many threads; many that ask at once share one look."""

    def look(self, by: Asker, models: Collection[str] | None = None, *, force: bool = False) -> Asked:
        """Ask for a look at `models`, or at all; returns at once.

        `force` takes what the gates of a version say for a warning; it is recorded in the history.
        """
