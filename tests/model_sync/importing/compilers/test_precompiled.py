from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest, describe_files
from bunriwiki.testing.paths import MODELS
from model_sync.errors import RejectedError
from model_sync.importing.compilers.precompiled import import_precompiled

BUNDLED = MODELS / "kcbert"


def test_a_version_is_imported_under_its_new_name(tmp_path: Path) -> None:
    output = tmp_path / "output"
    manifest = import_precompiled(BUNDLED, output, model="kcbert", version="v7", source="s3://models/kcbert")
    manifest.verify(output)
    assert Manifest.read(output) == manifest
    assert (manifest.version, manifest.source) == ("v7", "s3://models/kcbert")
    assert manifest.files == Manifest.read(BUNDLED).files


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundled classifier, to be damaged."""
    return shutil.copytree(BUNDLED, tmp_path / "published")


def rejected(folder: Path, output: Path, reason: str, *, model: str = "kcbert") -> None:
    with pytest.raises((RejectedError, DamagedArtifactError), match=reason):
        import_precompiled(folder, output, model=model, version="v7", source="a test")
    assert not output.exists()


def describe(folder: Path, **changes: object) -> None:
    manifest = Manifest.read(folder)
    manifest.model_copy(update={"files": describe_files(folder), **changes}).write(folder)


def test_a_version_of_another_model_is_rejected(tmp_path: Path) -> None:
    rejected(BUNDLED, tmp_path / "output", "a version of kcbert, not of yolo", model="yolo")


def test_a_changed_file_is_rejected(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    rejected(copy, tmp_path / "output", "tokenizer.json has 2 bytes")


def test_a_version_without_golden_samples_is_rejected(copy: Path, tmp_path: Path) -> None:
    (copy / "golden.jsonl").unlink()
    describe(copy)
    rejected(copy, tmp_path / "output", "no golden samples")
    (copy / "golden.jsonl").touch()
    describe(copy)
    rejected(copy, tmp_path / "output", "is empty")


def test_a_pyfunc_where_a_graph_is_required_is_rejected(copy: Path, tmp_path: Path) -> None:
    describe(copy, engine="pyfunc")
    rejected(copy, tmp_path / "output", "which runs code")
