"""`latest_model.yaml`: the newest version of each model in S3. Parsing and editing only, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from bunriwiki.artifacts import bounded_yaml
from bunriwiki.artifacts.manifest import MODELS
from model_sync.errors import SourceError
from model_sync.sources.digests import digest_of

LATEST_MODEL = "latest_model.yaml"
MAX_BYTES = 1_000_000  # of the file, which usually has a few hundred


def _is_relative(path: str) -> str:
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError("should be a relative path, without . and ..")
    return path


RelativePath = Annotated[str, AfterValidator(_is_relative)]
Folder = Annotated[str, AfterValidator(lambda path: path.removesuffix("/")), AfterValidator(_is_relative)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ListedFile(_Strict):
    """A file of a version: its path relative to the version's folder, its size in bytes, its SHA-256 in hex."""

    path: RelativePath
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class FullEntry(_Strict):
    """A version with its files. `path` is its folder, relative to that of `latest_model.yaml`; `signature` is base64."""

    version: str = Field(min_length=1)
    path: Folder
    files: Annotated[tuple[ListedFile, ...], Field(min_length=1, strict=False)]  # YAML has lists only
    metrics: dict[str, Any] = Field(default_factory=dict)
    signature: str | None = None

    @field_validator("files")
    @classmethod
    def _paths_are_unique(cls, files: tuple[ListedFile, ...]) -> tuple[ListedFile, ...]:
        if len({file.path for file in files}) != len(files):
            raise ValueError("two files share a path")
        return files

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of `[path, [[path, size, sha256], ...]]` as JSON without spaces, files sorted by path."""
        files = sorted([file.path, file.size, file.sha256] for file in self.files)
        return digest_of([self.path, files])

    @property
    def identity(self) -> tuple[str, str, str | None]:
        """What tells two entries apart: version, digest and signature. The metrics, which may be large, are for people."""
        return self.version, self.digest, self.signature


class ShortEntry(_Strict):
    """Only the path of a file or a folder."""

    path: Folder

    def version(self, model: str, digest: str, *, is_file: bool) -> str:
        """The last folder of the path that is not `model`; if there is none, `r-` and the first characters of the digest."""
        folders = self.path.split("/")
        if is_file:
            folders.pop()
        names = [folder for folder in folders if folder != model]
        return names[-1] if names else f"r-{digest[:12]}"


@dataclass(frozen=True, slots=True)
class LatestModel:
    """The file's content. `errors` has a message for each model whose entry is invalid; the other entries stay usable."""

    entries: Mapping[str, FullEntry | ShortEntry]
    errors: Mapping[str, str]

    @classmethod
    def parse(cls, text: bytes) -> LatestModel:
        """Parse the file; only this service's models are kept. Raises SourceError if it is not a YAML mapping."""
        try:
            body = bounded_yaml.load(text, MAX_BYTES)
        except bounded_yaml.YamlBoundsError as error:
            raise SourceError(f"{LATEST_MODEL}: {error}") from error
        except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date such as 2026-13-01
            raise SourceError(f"{LATEST_MODEL} is not valid YAML: {error}") from error
        if not isinstance(body, dict):
            raise SourceError(f"{LATEST_MODEL} should have the names of the models as its keys")
        entries: dict[str, FullEntry | ShortEntry] = {}
        errors: dict[str, str] = {}
        for model in MODELS:
            if model not in body:
                continue
            try:
                entries[model] = _entry(body[model])
            except ValidationError as error:
                errors[model] = f"the entry of {model} in {LATEST_MODEL} is invalid: {_describe(error)}"
        return cls(entries, errors)

    def of(self, model: str) -> FullEntry | ShortEntry | None:
        """The entry of `model`; None if there is none. Raises SourceError if it is invalid."""
        if model in self.errors:
            raise SourceError(self.errors[model])
        return self.entries.get(model)


def with_entry(text: bytes, model: str, entry: FullEntry) -> bytes:
    """The file `text`, which may be empty, with `entry` for `model`. Everything else is kept as written, except comments.

    Raises SourceError if `text` is not a YAML mapping.
    """
    try:
        bounded_yaml.check(text, MAX_BYTES)
        root = yaml.compose(text, Loader=yaml.SafeLoader) or yaml.MappingNode("tag:yaml.org,2002:map", [])
    except (yaml.YAMLError, bounded_yaml.YamlBoundsError) as error:
        raise SourceError(f"{LATEST_MODEL} is not valid YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise SourceError(f"{LATEST_MODEL} should have the names of the models as its keys")
    fields = entry.model_dump(mode="json", exclude_defaults=True)
    dumped = yaml.safe_dump({model: fields}, allow_unicode=True, sort_keys=False)
    added = yaml.compose(dumped, Loader=yaml.SafeLoader)
    assert isinstance(added, yaml.MappingNode)  # noqa: S101 (a dict was dumped)
    names = [name.value for name, _ in root.value]
    pairs = [pair for pair in root.value if pair[0].value != model]
    pairs.insert(names.index(model) if model in names else len(pairs), added.value[0])
    # Nodes keep the text of scalars; values would turn a version written as 1.10 into 1.1.
    document = yaml.MappingNode(root.tag, pairs, flow_style=False)
    return bytes(yaml.serialize(document, Dumper=yaml.SafeDumper, allow_unicode=True, encoding="utf-8"))


def _entry(value: object) -> FullEntry | ShortEntry:
    return ShortEntry(path=value) if isinstance(value, str) else FullEntry.model_validate(value)


def _describe(error: ValidationError) -> str:
    """Every mistake, without the values: an entry may be as long as the file."""
    mistakes = []
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in details["loc"]) or "the entry"
        hint = " (put it in quotes)" if details["type"] == "string_type" else ""
        mistakes.append(f"{place}: {details['msg']}{hint}")
    return "; ".join(mistakes)
