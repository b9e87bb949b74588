"""Samples that belong to a version, as JSON lines beside the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bunriwiki.artifacts.manifest import DamagedArtifactError


class Sample(BaseModel):
    """A sample: one line of such a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SampleT = TypeVar("SampleT", bound=Sample)


def read_samples(path: Path, kind: type[SampleT]) -> list[SampleT]:
    """The samples in the file `path`. Raises DamagedArtifactError."""
    try:
        return [kind.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DamagedArtifactError(f"{path} has no valid samples: {error}") from error


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write the file `path`. Fields with their default value are left out, as in `Manifest.write`."""
    lines = (json.dumps(sample.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) + "\n" for sample in samples)
    path.write_text("".join(lines), encoding="utf-8")
