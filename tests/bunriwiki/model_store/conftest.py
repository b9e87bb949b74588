"""A store, and versions that are small enough to publish quickly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import Label, Manifest, TextInput, describe_files
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
def writer(tmp_path: Path) -> Iterator[StoreWriter]:
    with open_writer(tmp_path / "store", "a test") as writer:
        yield writer
