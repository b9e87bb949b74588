"""The registries that the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from bunriwiki.settings import SourceChoice
from model_sync.settings import SyncSettings
from model_sync.sources import Source


def open_sources(settings: SyncSettings) -> dict[str, Source]:
    """The registry of each model; models of one registry share it."""
    choices = settings.choices
    places = {
        kind: {model: one.place for model, one in choices.items() if one.kind == kind} for kind in ("s3", "mlflow", "local")
    }
    found: dict[str, Source] = {}
    # Imported here: each brings a large library, and is not wanted everywhere.
    if places["s3"]:
        from model_sync.sources.s3 import S3Source

        s3 = S3Source(settings.s3_uri, least_speed=settings.min_download_kb_per_second * 1024)
        found |= dict.fromkeys(places["s3"], s3)
    if places["mlflow"]:
        from model_sync.sources.mlflow_registry import MlflowSource

        found |= dict.fromkeys(places["mlflow"], MlflowSource(settings.mlflow_tracking_uri, places["mlflow"]))
    if places["local"]:
        from model_sync.sources.local import LocalSource

        found |= dict.fromkeys(places["local"], LocalSource({model: Path(place) for model, place in places["local"].items()}))
    return found


def describe(choice: SourceChoice, settings: SyncSettings) -> str:
    """A registry for people, without a password that its address may have."""
    match choice.kind:
        case "s3":
            return settings.s3_uri
        case "mlflow":
            return f"MLflow {urlsplit(settings.mlflow_tracking_uri).hostname or settings.mlflow_tracking_uri}, {choice.place}"
        case _:
            return choice.place
