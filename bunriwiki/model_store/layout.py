"""The paths in the store.

    models/<model>/<version>/   published versions, in BentoML's own format, and nothing else
    generation.yaml             which version of each model serves
    history.jsonl               what happened, one line per event
    staging/                    versions that are being published or removed; workers do not read it
    quarantine/                 what must not go live, and why
    downloads/                  unfinished downloads from the registries; kept, so that they can be resumed
    quality/                    the sidecar's: reference distributions of the versions, and feedback
    run/                        the workers' heartbeats
    sync.json                   the state of the sidecar and of its last syncs
    log_level                   the log level of every process, while it differs from the setting
    rollout.yaml                what operators want of the rollout
    rollout/                    the rollout's: its state, and the Bentos that it builds
    signatures.json             the sidecar's: the highest counter of a verified signature of each model
    writer.lock                 held by the one writer

With `BENTOML_HOME` set to the store, `bentoml models list` shows the versions.
"""

from __future__ import annotations

from pathlib import Path

from bunriwiki.model_store.files import sync_folder
from bunriwiki.model_store.names import FALLBACK

MODEL_YAML = "model.yaml"  # BentoML recognises a model by it


class Layout:
    """The paths below `root`, which need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.generation = root / "generation.yaml"
        self.history = root / "history.jsonl"
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self.downloads = root / "downloads"
        self.quality = root / "quality"
        self.run = root / "run"
        self.sync = root / "sync.json"
        self.log_level = root / "log_level"
        self.rollout_wishes = root / "rollout.yaml"
        self.rollout = root / "rollout"
        self.rollout_state = self.rollout / "state.json"
        self.signatures = root / "signatures.json"
        self.lock = root / "writer.lock"

    def version(self, model: str, version: str) -> Path:
        """The folder of a published version."""
        return self.models / model / version

    def can_serve(self, model: str, version: str) -> bool:
        """Whether a version is on disk: it is published, or it is `FALLBACK`, which every worker has."""
        return version == FALLBACK or self.version(model, version).is_dir()

    def versions(self, model: str) -> list[str]:
        """The published versions of a model, in no particular order."""
        try:
            return [folder.name for folder in (self.models / model).iterdir() if folder.is_dir()]
        except FileNotFoundError:
            return []

    def published(self) -> dict[str, list[str]]:
        """The published versions of every model that has any."""
        try:
            names = sorted(folder.name for folder in self.models.iterdir() if folder.is_dir())
        except FileNotFoundError:
            return {}
        return {name: versions for name in names if (versions := self.versions(name))}

    def create(self) -> None:
        """Create the folders that do not exist. Raises OSError."""
        for folder in (self.models, self.staging, self.quarantine, self.downloads, self.run, self.rollout):
            folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.root)
