"""The deployment's reference set: what versions are asked, and what is right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.artifacts.reference import (
    ReferencePhoto,
    ReferenceText,
    read_reference_photos,
    read_reference_texts,
    write_reference,
)
from model_sync.errors import ImportEnvironmentError
from model_sync.evaluation.gates import Truth
from model_sync.importing.compilers.golden_inputs import spread


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """`truth` never leaves this process; the inputs do."""

    folder: Path
    truth: Truth

    @classmethod
    def read(cls, model: str, folder: Path) -> ReferenceSet:
        """Raises ImportEnvironmentError."""
        try:
            truth: Truth = read_reference_photos(folder) if model == "yolo" else read_reference_texts(folder)
        except DamagedArtifactError as error:
            raise ImportEnvironmentError(f"the reference set cannot be used: {error}") from error
        return cls(folder, truth)

    def inputs(self, positions: Sequence[int]) -> list[Any]:
        """The inputs at these places. Photos are read only now: all of them may not fit into memory. Raises
        ImportEnvironmentError."""
        try:
            return [
                Photo(data=(self.folder / sample.image).read_bytes()) if isinstance(sample, ReferencePhoto) else sample.text
                for sample in (self.truth[position] for position in positions)
            ]
        except OSError as error:
            raise ImportEnvironmentError(f"the reference set cannot be used: {error}") from error

    def write_questions(self, folder: Path) -> None:
        """Write what golden samples are made of where a version brings none: a reference set of some inputs, without labels.

        To make them may run other people's code, which could note labels for later. So neither the order nor the name of a
        photo tells any. Raises ImportEnvironmentError, OSError.
        """
        chosen = spread(range(len(self.truth)), lambda position: _class(self.truth[position]))
        questions: dict[str, ReferenceText | ReferencePhoto] = {}
        for asked in self.inputs(chosen):
            data = asked.data if isinstance(asked, Photo) else asked.encode()
            name = hashlib.sha256(data).hexdigest()
            if isinstance(asked, Photo):
                (folder / name).write_bytes(data)
                questions[name] = ReferencePhoto(image=name, objects=())
            else:
                questions[name] = ReferenceText(text=asked, label="")
        write_reference(folder, [questions[name] for name in sorted(questions)])


def _class(sample: ReferenceText | ReferencePhoto) -> str:
    if isinstance(sample, ReferenceText):
        return sample.label
    return sample.objects[0].label if sample.objects else ""
