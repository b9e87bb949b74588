"""Why a person's command is not carried out, and the names that a command may carry."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from bunriwiki.artifacts.manifest import MODELS, Version
from model_sync.errors import CommandError

_VERSION: TypeAdapter[str] = TypeAdapter(Version)


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
