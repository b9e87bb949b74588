"""Versions that must not go live, and why: `quarantine/<model>/<version>.yaml`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml
from loguru import logger
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.artifacts import bounded_yaml
from bunriwiki.artifacts.manifest import Version
from bunriwiki.model_store.files import sync_folder, write_atomically

UNREADABLE = "unreadable"  # the digest of an entry whose file is damaged


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

    def applies_to(self, digest: str, signature: str) -> bool:
        """Whether the reason applies to an offer: other files, or another signature where that was the reason, void it.

        A damaged entry applies to every offer, because what it said is not known.
        """
        return self.digest == UNREADABLE or (self.digest == digest and self.signature in {None, signature})


class Quarantine:
    """The entries in the folder. Only the writer changes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, entry: Quarantined) -> None:
        """Add `entry`, durably, in place of an older one. Raises OSError."""
        path = self._path(entry.model, entry.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(self._folder)
        write_atomically(path, bounded_yaml.dump(entry.model_dump(mode="json")))

    def find(self, model: str, version: str) -> Quarantined | None:
        """The entry of a version; None if it is not in quarantine.

        A version whose file is damaged stays in quarantine: its entry has the digest `UNREADABLE`, and a reason that says so.
        """
        path = self._path(model, version)
        try:
            return Quarantined.model_validate(yaml.safe_load(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            return _unreadable(path, error)

    def all(self) -> list[Quarantined]:
        """All entries, sorted by model and version. A file whose name is not that of a version is skipped, and logged."""
        found = []
        for path in sorted(self._folder.glob("*/[!.]*.yaml")):
            try:
                entry = self.find(path.parent.name, path.stem)
            except ValidationError:
                logger.warning("{} is not about a version: delete it", path)
            else:
                found += [entry] if entry else []
        return found

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


def _unreadable(path: Path, error: Exception) -> Quarantined:
    """The entry in place of the damaged file at `path`. Raises ValidationError if its name is not that of a version."""
    try:
        at = path.stat().st_mtime
    except OSError:
        at = 0.0
    return Quarantined(
        model=path.parent.name,
        version=path.stem,
        digest=UNREADABLE,
        reason=f"its quarantine entry cannot be read ({type(error).__name__}): `quarantine release` deletes it",
        at=datetime.fromtimestamp(at, UTC),
    )
