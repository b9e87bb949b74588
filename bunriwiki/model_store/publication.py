"""Publishes a version: it is staged on the same filesystem, made durable, and renamed into place in one step."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from bentoml._internal.models.model import ModelContext, ModelInfo
from bentoml._internal.tag import Tag

from bunriwiki.artifacts import bounded_yaml
from bunriwiki.artifacts.manifest import MANIFEST, Manifest, digest
from bunriwiki.model_store.files import sync_folder, sync_tree
from bunriwiki.model_store.layout import MODEL_YAML, Layout
from bunriwiki.model_store.names import RESERVED

MAX_MODEL_YAML_BYTES = 2**20

Progress = Callable[[str], None]


class VersionExistsError(Exception):
    """The store has another version under this name, or the name is reserved."""


def publish(
    layout: Layout,
    folder: Path,
    source: str,
    progress: Progress = lambda _: None,
    *,
    digest_there: str | None = None,
    forced_past: str | None = None,
) -> Manifest:
    """Copy the version in `folder` into the store; `source` says where it came from. Only for the writer.

    `digest_there` is the digest of what the registry offered, by which `registry_digest` recognises it; `forced_past` names the
    gates that the version did not pass.

    Readers see the whole version or nothing, whenever the process dies. To publish a version again changes nothing. `progress`
    is called after each step: copied, verified, described, synced, renamed, published. Raises DamagedArtifactError,
    VersionExistsError, OSError.
    """
    manifest = Manifest.read(folder)
    if manifest.version in RESERVED:
        raise VersionExistsError(f"{manifest.version} is a reserved name; publish {manifest.model} under another one")
    place = layout.version(manifest.model, manifest.version)
    if place.exists():
        if digest(place / MANIFEST) != digest(folder / MANIFEST):
            raise VersionExistsError(f"the store has another {manifest.model}:{manifest.version}; publish it under a new name")
    else:
        _copy(layout, folder, manifest, _model_yaml(manifest, source, digest=digest_there, forced_past=forced_past), progress)
    sync_folder(place.parent)  # also if an earlier writer died before this step
    sync_folder(layout.models)
    progress("published")
    return manifest


def registry_digest(folder: Path) -> str | None:
    """The digest of what the registry offered for the published version in `folder`; None if it is not known."""
    return _metadata(folder, "digest")


def forced_past(folder: Path) -> str | None:
    """The gates that an operator forced the published version in `folder` past; None if it passed."""
    return _metadata(folder, "forced_past")


def _metadata(folder: Path, name: str) -> str | None:
    try:
        found: Any = bounded_yaml.load((folder / MODEL_YAML).read_bytes(), MAX_MODEL_YAML_BYTES)
        value = found["metadata"].get(name)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError):
        return None
    return None if value is None else str(value)


def _copy(layout: Layout, folder: Path, manifest: Manifest, model_yaml: str, progress: Progress) -> None:
    place = layout.version(manifest.model, manifest.version)
    staged = layout.staging / f"{manifest.model}-{manifest.version}-{uuid.uuid4().hex}"
    try:
        for path in (MANIFEST, *(file.path for file in manifest.files)):
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, staged / path)
        progress("copied")
        manifest.verify(staged)  # the copy, not the original: the copy will be served
        progress("verified")
        (staged / MODEL_YAML).write_text(model_yaml, encoding="utf-8")
        progress("described")
        sync_tree(staged)
        progress("synced")
        place.parent.mkdir(exist_ok=True)
        staged.rename(place)
        progress("renamed")
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _model_yaml(manifest: Manifest, source: str, **known: str | None) -> str:
    info = ModelInfo(
        tag=Tag(manifest.model, manifest.version),
        module="",  # the runners load it, not BentoML
        labels={"project": "bunriwiki"},
        options={},
        metadata={"source": source, "engine": manifest.engine, **{name: value for name, value in known.items() if value}},
        context=ModelContext(framework_name=manifest.engine, framework_versions={}),
        signatures={},
        api_version="v1",
    )
    return str(info.dump())
