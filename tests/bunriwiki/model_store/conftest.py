"""A store, and versions that are small enough to publish quickly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import Label, Manifest, TextInput, describe_files
from bunriwiki.model_store import promotion
from bunriwiki.model_store.writer import StoreWriter, open_writer

MakeVersion = Callable[..., Path]


@pytest.fixture
def make_version(tmp_path: Path) -> MakeVersion:
    """Writes the folder of a version: `make_version("kcbert", "v1", "weights")`."""

    def make(model: str = "kcbert", version: str = "v1", weights: str = "weights") -> Path:
        folder = tmp_path / "made" / model / version
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "deeper").mkdir(parents=True)
        (folder / "deeper" / "weights.bin").write_text(weights)
        (folder / "README.md").write_text("not part of the version")
        Manifest(
            model=model,
            version=version,
            engine="onnx",
            entry="deeper/weights.bin",
            input=TextInput(),
            labels=(Label(name="a", ko="가"),),
            source="a test",
            license="AGPL-3.0-or-later",
            files=describe_files(folder),
        ).write(folder)
        return folder

    return make


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreWriter]:
    """A writer that waits neither for the disk, as no test cuts the power, nor long for workers."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(promotion, "POLL_SECONDS", 0.01)
    with open_writer(tmp_path / "store", "a test") as writer:
        yield writer
