"""Versions that must not go live, and why: `quarantine/<model>/<version>.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import Version
from bunriwiki.model_store.files import sync_folder, write_atomically


class Quarantined(BaseModel):
    """A version that failed. `digest` is of what the registry offered: when it changes there, the version is another one.

    `signature`, where it failed for its signature, is a digest of that and of the keys that it was held to: when one of them
    changes, the version may pass. It is None where it failed for another reason.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: Version
    digest: str = Field(min_length=1)
    signature: str | None = None
    reason: str = Field(min_length=1)
    at: AwareDatetime


class Quarantine:
    """The folder. Only the writer changes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, one: Quarantined) -> None:
        """Keep `one` out, durably; a newer reason replaces an older one."""
        path = self._path(one.model, one.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(self._folder)
        write_atomically(path, yaml.safe_dump(one.model_dump(mode="json"), allow_unicode=True, sort_keys=False, width=120))

    def find(self, model: str, version: str) -> Quarantined | None:
        """What is known of a version; None when it is not in quarantine."""
        try:
            return Quarantined.model_validate(yaml.safe_load(self._path(model, version).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def all(self) -> list[Quarantined]:
        """Everything in quarantine, by model and version."""
        found = (self.find(path.parent.name, path.stem) for path in sorted(self._folder.glob("*/[!.]*.yaml")))
        return [one for one in found if one]

    def release(self, model: str, version: str) -> bool:
        """Let a version be tried again; whether it was in quarantine."""
        path = self._path(model, version)
        if not path.exists():
            return False
        path.unlink()
        sync_folder(path.parent)
        return True

    def _path(self, model: str, version: str) -> Path:
        return self._folder / model / f"{version}.yaml"
