"""Validates the names that a command carries: they become parts of paths."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from bunriwiki.artifacts.manifest import MODELS, Version
from model_sync.errors import CommandError

_VERSION: TypeAdapter[str] = TypeAdapter(Version)


def checked_model(model: str) -> str:
    """`model`, if there is a model of this name. Raises CommandError."""
    if model not in MODELS:
        raise CommandError("unknown", f"There is no model {model[:64]!r}. The models are {', '.join(MODELS)}.")
    return model


def checked_version(version: str) -> str:
    """`version`, if it can be the name of a version in the store. Raises CommandError."""
    try:
        return _VERSION.validate_python(version)
    except ValidationError:
        raise CommandError(
            "invalid", f"{version[:64]!r} is no version: use a name that the status shows, in lower case."
        ) from None
