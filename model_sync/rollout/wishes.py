"""What operators want of the rollout: `rollout.yaml` in the store. The writer of the store alone writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from bunriwiki.artifacts import bounded_yaml
from bunriwiki.model_store.files import write_atomically

HEADER = "# What operators want of the rollout. Written by the sidecar, followed by the rollout: docs/rollout.md\n"
MAX_BYTES = 65_536


class WishesError(Exception):
    """The file cannot be read. The message says why."""


class Wishes(BaseModel):
    """The whole file.

    While `paused`, no further replica gets the new image. `approved` is the step that may be taken next, as `State.waiting`
    names it. `cancelled` and `undone` are numbers of rollouts. `start` counts the requests to begin a rollout at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    paused: bool = False
    approved: str | None = None
    cancelled: int = 0
    undone: int = 0
    start: int = 0

    @classmethod
    def read(cls, path: Path) -> Wishes:
        """Read the file; no wishes if it does not exist. Raises WishesError."""
        try:
            return cls.model_validate(bounded_yaml.load(path.read_bytes(), MAX_BYTES))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, yaml.YAMLError) as error:  # pydantic's ValidationError is a ValueError
            raise WishesError(f"{path} cannot be read: {error}") from error

    def write(self, path: Path) -> None:
        """Replace the file, atomically and durably. Raises OSError."""
        write_atomically(path, HEADER + bounded_yaml.dump(self.model_dump()))
