"""Where things lie in the store.

    models/<model>/<version>/   published versions, in BentoML's own format, and nothing else
    generation.yaml             which version of each model serves
    history.jsonl               what happened, a line each
    staging/                    versions on their way in or out; nobody reads it
    quarantine/                 what must not go live, and why
    downloads/                  what is on its way from a registry; it stays, so that a download goes on
    run/                        the workers' heartbeats
    sync.json                   what the sidecar says of itself
    writer.lock                 held by the one writer

With `BENTOML_HOME` set to the store, `bentoml models list` shows the versions.
"""

from __future__ import annotations

from pathlib import Path

from bunriwiki.model_store.files import sync_folder


class Layout:
    """The paths below `root`. Reading them touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.generation = root / "generation.yaml"
        self.history = root / "history.jsonl"
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self.downloads = root / "downloads"
        self.run = root / "run"
        self.sync = root / "sync.json"
        self.lock = root / "writer.lock"

    def version(self, model: str, version: str) -> Path:
        """The folder of a published version."""
        return self.models / model / version

    def versions(self, model: str) -> list[str]:
        """The published versions of a model, in no order."""
        try:
            return [folder.name for folder in (self.models / model).iterdir() if folder.is_dir()]
        except FileNotFoundError:
            return []

    def published(self) -> dict[str, list[str]]:
        """Every model that has published versions, with them."""
        try:
            names = sorted(folder.name for folder in self.models.iterdir() if folder.is_dir())
        except FileNotFoundError:
            return {}
        return {name: versions for name in names if (versions := self.versions(name))}

    def create(self) -> None:
        """Make the folders that are not there yet."""
        for folder in (self.models, self.staging, self.quarantine, self.downloads, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.root)
