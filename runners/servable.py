"""What a loaded version offers, and how the class of a model is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

from bunriwiki.artifacts.answers import Answers
from bunriwiki.artifacts.models import ModelSpec
from runners.throttle import Pause

InputT = TypeVar("InputT")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
AnswerT = TypeVar("AnswerT")


class Warmable(Protocol):
    """A version in memory: its class loads it in the constructor."""

    @property
    def version(self) -> str: ...

    def warm_up(self, pause: Pause, /) -> None:
        """Prepare it for its first request, calling `pause` between two pieces of work. Raises DamagedArtifactError."""
        ...


class Servable(Warmable, Protocol[InputT_contra, AnswerT]):
    """A version that answers. Safe to call from many threads."""

    def predict(self, batch: Sequence[InputT_contra], /) -> Answers[AnswerT]:
        """One result per input, in order."""
        ...


def servable_class(spec: ModelSpec[InputT, AnswerT]) -> Callable[[Path], Servable[InputT, AnswerT]]:
    """The class that opens a version of the model from its folder. Imports its module, and the libraries that it needs."""
    module, name = spec.servable.split(":")
    return cast("Callable[[Path], Servable[InputT, AnswerT]]", getattr(importlib.import_module(module), name))
