"""Versions that must not go live, and why: `quarantine/<model>/<version>.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import Version
from bunriwiki.model_store.files import sync_folder, write_atomically


class Quarantined(BaseModel):
    """A version that was rejected.

    `digest` is the digest of what the registry offered: if it changes there, the version counts as another one. If the
    version was rejected for its signature, `signature` is a digest of the signature and of the accepted keys: if one of them
    changes, the version may pass. Otherwise it is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: Version
    digest: str = Field(min_length=1)
    signature: str | None = None
    reason: str = Field(min_length=1)
    at: AwareDatetime


class Quarantine:
    """The entries in the folder. Only the writer changes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, entry: Quarantined) -> None:
        """Add `entry`, durably, in place of an older one. Raises OSError."""
        path = self._path(entry.model, entry.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(self._folder)
        write_atomically(path, yaml.safe_dump(entry.model_dump(mode="json"), allow_unicode=True, sort_keys=False, width=120))

    def find(self, model: str, version: str) -> Quarantined | None:
        """The entry of a version; None if it is not in quarantine."""
        try:
            return Quarantined.model_validate(yaml.safe_load(self._path(model, version).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def all(self) -> list[Quarantined]:
        """All entries, sorted by model and version."""
        found = (self.find(path.parent.name, path.stem) for path in sorted(self._folder.glob("*/[!.]*.yaml")))
        return [entry for entry in found if entry]

    def release(self, model: str, version: str) -> bool:
        """Delete the entry of a version; returns whether there was one. Raises OSError."""
        path = self._path(model, version)
        if not path.exists():
            return False
        path.unlink()
        sync_folder(path.parent)
        return True

    def _path(self, model: str, version: str) -> Path:
        return self._folder / model / f"{version}.yaml"
