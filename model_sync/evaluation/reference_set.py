"""The deployment's reference set: labelled inputs that every version is evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.golden_inputs import group, spread
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
from model_sync.evaluation.quality import Truth


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """The set in `folder`. Sandboxed programs receive its inputs only: the labels in `truth` never leave this process."""

    folder: Path
    truth: Truth

    @classmethod
    def read(cls, model: str, folder: Path) -> ReferenceSet:
        """Read the set of `model` in `folder`. Raises ImportEnvironmentError."""
        try:
            truth: Truth = read_reference_photos(folder) if model == "yolo" else read_reference_texts(folder)
        except DamagedArtifactError as error:
            raise ImportEnvironmentError(f"the reference set cannot be read: {error}") from error
        return cls(folder, truth)

    def inputs(self, positions: Sequence[int]) -> list[Any]:
        """The inputs at these positions. Photos are read here, because all of them may not fit into memory.

        Raises ImportEnvironmentError.
        """
        try:
            return [
                Photo(data=(self.folder / sample.image).read_bytes()) if isinstance(sample, ReferencePhoto) else sample.text
                for sample in (self.truth[position] for position in positions)
            ]
        except OSError as error:
            raise ImportEnvironmentError(f"the reference set cannot be read: {error}") from error

    def write_unlabelled(self, folder: Path) -> None:
        """Write a reference set of some of the inputs without labels, from which a compiler records golden samples.

        Recording may run third-party code, which could store labels for later. So neither the order of the inputs nor the names
        of photos reveal their labels. Raises ImportEnvironmentError, OSError.
        """
        chosen = spread(range(len(self.truth)), lambda position: group(self.truth[position]))
        samples: dict[str, ReferenceText | ReferencePhoto] = {}
        for given in self.inputs(chosen):
            data = given.data if isinstance(given, Photo) else given.encode()
            name = hashlib.sha256(data).hexdigest()
            if isinstance(given, Photo):
                (folder / name).write_bytes(data)
                samples[name] = ReferencePhoto(image=name, objects=())
            else:
                samples[name] = ReferenceText(text=given, label="")
        write_reference(folder, [samples[name] for name in sorted(samples)])
