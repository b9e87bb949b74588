"""The deployment's reference set: what versions are asked, and what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.inputs import Photo
from artifacts.manifest import DamagedArtifactError
from artifacts.reference import ReferencePhoto, read_reference_photos, read_reference_texts
from model_sync.contained import UnfitError
from model_sync.gates import Truth


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """`truth` never leaves this process; the inputs do."""

    folder: Path
    truth: Truth

    @classmethod
    def read(cls, model: str, folder: Path) -> ReferenceSet:
        """Raises UnfitError."""
        try:
            truth: Truth = read_reference_photos(folder) if model == "yolo" else read_reference_texts(folder)
        except DamagedArtifactError as error:
            raise UnfitError(f"the reference set cannot be used: {error}") from error
        return cls(folder, truth)

    def inputs(self, positions: Sequence[int]) -> list[Any]:
        """The inputs at these places. Photos are read only now: all of them may not fit into memory. Raises UnfitError."""
        try:
            return [
                Photo(data=(self.folder / sample.image).read_bytes()) if isinstance(sample, ReferencePhoto) else sample.text
                for sample in (self.truth[position] for position in positions)
            ]
        except OSError as error:
            raise UnfitError(f"the reference set cannot be used: {error}") from error
