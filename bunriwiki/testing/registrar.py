"""Registers models with an MLflow server, as a data scientist does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient

NAME = "ensemble-sentiment-model"


class Registrar:
    """Registers MLflow model folders under `name`."""

    def __init__(self, url: str, name: str = NAME) -> None:
        self.client = MlflowClient(url, registry_uri=url)
        self.name = name
        self.client.create_registered_model(name)
        self._experiment = self.client.create_experiment(f"training of {name}")

    def register(self, folder: Path, *aliases: str) -> str:
        """Register the model in `folder` as a new version, set these aliases on it, and return its number."""
        run = self.client.create_run(self._experiment)
        self.client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"{run.info.artifact_uri}/model"
        version = str(self.client.create_model_version(self.name, source, run.info.run_id).version)
        for alias in aliases:
            self.client.set_registered_model_alias(self.name, alias, version)
        return version

    def add_webhook(self, url: str, secret: str, *events: Any) -> None:
        """Have the server call `url` on these events, signed with `secret`."""
        self.client.create_webhook(name="bunriwiki", url=url, events=list(events), secret=secret)
