"""The manifest, which describes a model version and the digests of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from bunriwiki.artifacts import bounded_yaml

MODELS = ("yolo", "kcbert", "sentiment")  # the models of this service
MANIFEST = "manifest.yaml"
MAX_MANIFEST_BYTES = 8_000_000  # a version may have many files

# The names that BentoML's model store accepts for versions.
Version = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


class DamagedArtifactError(Exception):
    """The folder does not match its manifest. The message names the file and the reason."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Strict):
    """A class of the model: its name, and its Korean name."""

    name: str = Field(min_length=1)
    ko: str = Field(min_length=1)


class ArtifactFile(_Strict):
    """A file of the version: its path relative to the folder, its size in bytes, its sha256 in hex."""

    path: str = Field(min_length=1)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _is_inside_the_folder(cls, path: str) -> str:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError("the path of a file must be inside the folder of the version")
        return path


class ImageInput(_Strict):
    """A square with sides of `size` pixels: RGB, 0..1, as float32 [batch, 3, size, size]."""

    kind: Literal["image"] = "image"
    size: int = Field(ge=32, multiple_of=32)


class NgramsInput(_Strict):
    """Character n-grams of `shortest` to `longest` characters, hashed into `buckets`.

    They are taken from the first `characters` of the text, in lower case, with two or more white space characters in a row as
    one space.
    """

    shortest: int = Field(ge=1)
    longest: int = Field(ge=1, le=8)
    buckets: int = Field(ge=1, le=2**24)
    characters: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError("the shortest n-gram is longer than the longest")
        return self


class TokensInput(_Strict):
    """WordPiece tokens as int64 [batch, tokens], cut at `max_tokens`; the embedding table has `vocabulary` rows.

    With `ngrams` the n-grams as well, for the linear part of an ensemble: buckets as int64 and counts as float32, both
    [batch, n-grams].
    """

    kind: Literal["tokens"] = "tokens"
    max_tokens: int = Field(ge=3)
    vocabulary: int = Field(ge=1)
    ngrams: NgramsInput | None = None


class TextInput(_Strict):
    """The texts themselves, for a model that preprocesses them itself."""

    kind: Literal["text"] = "text"


class DetectionOutput(_Strict):
    """What becomes of a detector's scores.

    A detection is uncertain if its score is below `uncertain_below`. The graph must have the output `class_scores`, float32
    [kept, classes], as how a person can tell depends on the second likeliest class. A version whose graph has none fails its
    golden samples.
    """

    uncertain_below: float = Field(gt=0, le=1)


class Manifest(_Strict):
    """One version of one model.

    `output` is of detectors only; without it no detection is uncertain. `engine` names the engine that runs it, and `entry` the
    file that the engine opens, one of `files`, or a folder with some of them. `files` are all files of the version except the
    manifest.
    """

    format: Literal[1] = 1
    model: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: Version
    engine: Literal["onnx", "torch", "pyfunc"]
    entry: str = Field(min_length=1)
    input: ImageInput | TokensInput | TextInput = Field(discriminator="kind")
    output: DetectionOutput | None = None
    labels: tuple[Label, ...] = Field(min_length=1)
    source: str = Field(min_length=1)
    license: str = Field(min_length=1)
    files: tuple[ArtifactFile, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _label_names_are_unique(self) -> Self:
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError("two labels share a name")
        return self

    @model_validator(mode="after")
    def _output_is_of_a_detector(self) -> Self:
        if self.output and not isinstance(self.input, ImageInput):
            raise ValueError("only a model that takes an image has an output")
        return self

    @model_validator(mode="after")
    def _entry_is_verified(self) -> Self:
        # The engine opens nothing whose digest the manifest does not state.
        if not any(file.path == self.entry or file.path.startswith(f"{self.entry}/") for file in self.files):
            raise ValueError("entry must be one of files, or a folder that has some of them")
        return self

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest in `folder`. Raises DamagedArtifactError if it is missing or does not match the schema."""
        path = folder / MANIFEST
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_MANIFEST_BYTES + 1)
            return cls.model_validate(bounded_yaml.load(data, MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            raise DamagedArtifactError(f"{path} does not exist") from None
        except (yaml.YAMLError, ValueError) as error:
            raise DamagedArtifactError(f"{path} is not a valid manifest: {error}") from error

    def write(self, folder: Path) -> None:
        """Write the manifest into `folder`, with the fields in the order of this class.

        Fields without a value are left out: an earlier release, which rejects unknown fields, can read what does not use them.
        """
        (folder / MANIFEST).write_text(bounded_yaml.dump(self.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Verify that every file is in `folder`, with the size and the digest in the manifest.

        Raises DamagedArtifactError at the first file that differs.
        """
        root = folder.resolve()
        for file in self.files:
            path = (folder / file.path).resolve()
            if not path.is_relative_to(root):
                raise DamagedArtifactError(f"{file.path} is outside {folder}")
            if not path.is_file():
                raise DamagedArtifactError(f"{path} does not exist")
            if path.stat().st_size != file.size:
                raise DamagedArtifactError(f"{path} has {path.stat().st_size} bytes, the manifest says {file.size}")
            if digest(path) != file.sha256:
                raise DamagedArtifactError(f"{path} does not have the sha256 that the manifest states")


def digest(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_files(folder: Path) -> tuple[ArtifactFile, ...]:
    """All files below `folder` except the manifest and Markdown files, as the manifest lists them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        ArtifactFile(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest(path))
        for path in paths
        if path.name != MANIFEST and path.suffix != ".md"
    )
