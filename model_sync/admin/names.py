"""Why a person's command is not carried out, and the names that a command may carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from bunriwiki.artifacts.manifest import MODELS, Version

Kind = Literal["invalid", "unknown", "nothing", "quarantined", "serving", "cannot_load", "busy", "superseded", "failed"]
"""`invalid`: no name at all. `unknown`: nothing has that name here. `nothing`: there is no version to go back to.
`quarantined`: the version is in quarantine. `serving`: it serves. `cannot_load`: workers cannot load it, or did not in time.
`busy`: another command for the model is under way. `superseded`: another version began to serve meanwhile. `failed`: something
here is in the way (a full disk, say)."""

_VERSION: TypeAdapter[str] = TypeAdapter(Version)


@dataclass
class CommandError(Exception):
    """The command is not carried out, and nothing has changed. `sentence` says why, and what to do."""

    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def checked_model(model: str) -> str:
    """`model`, where it is one: it becomes a part of paths. Raises CommandError."""
    if model not in MODELS:
        raise CommandError("unknown", f"There is no model {model[:64]!r}. The models are {', '.join(MODELS)}.")
    return model


def checked_version(version: str) -> str:
    """`version`, where it is a name of the store's: it becomes a part of paths. Raises CommandError."""
    try:
        return _VERSION.validate_python(version)
    except ValidationError:
        raise CommandError(
            "invalid", f"{version[:64]!r} is no version: the names are those that the status shows, in lower case."
        ) from None
