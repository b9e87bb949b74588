"""The kinds of registry that BUNRIWIKI_SOURCES may name. docs/new-registry.md shows how to add a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bunriwiki.settings import SourceChoice
from model_sync.settings import SyncSettings
from model_sync.sources import Source


@dataclass(frozen=True, slots=True)
class Registry:
    """A kind of registry.

    `open` returns the source of the models in `places`, which maps them to what follows the colon in BUNRIWIKI_SOURCES. It may
    raise OSError and ValueError. `describe` returns the address of one place, without credentials, for logs and `GET /state`.
    `label` returns its name in the metrics, which everybody may read: no path of this machine; None: the kind.
    """

    open: Callable[[SyncSettings, Mapping[str, str]], Source]
    describe: Callable[[SyncSettings, str], str] = lambda _, place: place
    label: Callable[[SyncSettings, str], str] | None = None


# Each kind imports its source when it is opened: the sources need large libraries.


def _open_s3(settings: SyncSettings, _: Mapping[str, str]) -> Source:
    from model_sync.sources.s3 import S3Source

    return S3Source(settings.s3_uri, min_speed=settings.min_download_kb_per_second * 1024)


def _open_mlflow(settings: SyncSettings, places: Mapping[str, str]) -> Source:
    from model_sync.sources.mlflow_registry import MlflowSource

    return MlflowSource(settings.mlflow_tracking_uri, places, settings.mlflow_artifacts)


def _describe_mlflow(settings: SyncSettings, place: str) -> str:
    return f"MLflow {urlsplit(settings.mlflow_tracking_uri).hostname or settings.mlflow_tracking_uri}, {place}"


def _label_mlflow(settings: SyncSettings, place: str) -> str:
    return f"MLflow {urlsplit(settings.mlflow_tracking_uri).hostname or 'on this machine'}, {place}"


def _open_local(_: SyncSettings, places: Mapping[str, str]) -> Source:
    from model_sync.sources.local import LocalSource

    return LocalSource({model: Path(place) for model, place in places.items()})


REGISTRIES = {
    "s3": Registry(_open_s3, lambda settings, _: settings.s3_uri, lambda settings, _: settings.s3_uri),
    "mlflow": Registry(_open_mlflow, _describe_mlflow, _label_mlflow),
    "local": Registry(_open_local),
}


def open_sources(settings: SyncSettings) -> dict[str, Source]:
    """The source of each model that has a registry; models of the same kind of registry share it."""
    found: dict[str, Source] = {}
    for kind, registry in REGISTRIES.items():
        places = {model: choice.place for model, choice in settings.choices.items() if choice.kind == kind}
        if places:
            found |= dict.fromkeys(places, registry.open(settings, places))
    return found


def describe(choice: SourceChoice, settings: SyncSettings) -> str:
    """The address of a registry, without credentials, for logs and `GET /state`."""
    return REGISTRIES[choice.kind].describe(settings, choice.place)


def label(choice: SourceChoice, settings: SyncSettings) -> str:
    """The name of a registry in the metrics."""
    of_kind = REGISTRIES[choice.kind].label
    return of_kind(settings, choice.place) if of_kind else choice.kind
