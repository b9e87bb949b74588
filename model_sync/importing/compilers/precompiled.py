"""Imports a precompiled version: verifies the folder, and gives it the name and the source of the registry."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bunriwiki.artifacts.golden import GOLDEN, read_golden_photos, read_golden_texts
from bunriwiki.artifacts.manifest import ImageInput, Manifest
from model_sync.errors import RejectedError


def import_precompiled(folder: Path, output: Path, *, model: str, version: str, source: str) -> Manifest:
    """Copy the version in `folder` to the folder `output`, as `version` from `source`. Files are hard-linked where possible.

    Raises DamagedArtifactError and RejectedError.
    """
    manifest = Manifest.read(folder)
    if manifest.model != model:
        raise RejectedError(f"it is a version of {manifest.model}, not of {model}")
    if manifest.engine == "pyfunc" and model != "sentiment":
        raise RejectedError(f"its engine is pyfunc, which runs code: {model} requires onnx")
    manifest.verify(folder)
    if GOLDEN not in {file.path for file in manifest.files}:
        raise RejectedError(f"it has no golden samples: add {GOLDEN} with the original model's answers")
    read = read_golden_photos if isinstance(manifest.input, ImageInput) else read_golden_texts
    if not read(folder):
        raise RejectedError(f"it has no golden samples: {GOLDEN} is empty")
    for file in manifest.files:
        target = output / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(folder / file.path, target)
    renamed = manifest.model_copy(update={"version": version, "source": source})
    renamed.write(output)
    return renamed


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another file system, or not permitted
        shutil.copyfile(source, target)
