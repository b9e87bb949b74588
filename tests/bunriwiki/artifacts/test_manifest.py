from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bunriwiki.artifacts.manifest import DamagedArtifactError, ImageInput, Label, Manifest, TextInput, describe_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.bin").write_bytes(b"weights")
    (tmp_path / "sub" / "more.bin").write_bytes(b"more")
    (tmp_path / "README.md").write_text("a card")
    manifest(tmp_path).write(tmp_path)
    return tmp_path


def manifest(folder: Path, **changes: object) -> Manifest:
    fields = {
        "model": "sentiment",
        "version": "v1",
        "engine": "pyfunc",
        "entry": "model.bin",
        "input": TextInput(),
        "labels": (Label(name="긍정", ko="긍정"), Label(name="부정", ko="부정")),
        "source": "a test",
        "license": "MIT",
        "files": describe_files(folder),
    }
    return Manifest.model_validate({**fields, **changes})


def test_reads_what_was_written(folder: Path) -> None:
    assert Manifest.read(folder) == manifest(folder)
    Manifest.read(folder).verify(folder)


def test_all_files_but_the_manifest_and_the_card_are_listed(folder: Path) -> None:
    assert [file.path for file in Manifest.read(folder).files] == ["model.bin", "sub/more.bin"]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "model.bin").write_bytes(b"weighty"), "sha256"),
        (lambda folder: (folder / "model.bin").write_bytes(b"w"), "1 bytes, the manifest says 7"),
        (lambda folder: (folder / "sub" / "more.bin").unlink(), "does not exist"),
    ],
)
def test_verification_names_the_damaged_file(folder: Path, damage, complaint: str) -> None:  # type: ignore[no-untyped-def]
    damage(folder)
    with pytest.raises(DamagedArtifactError, match=complaint):
        Manifest.read(folder).verify(folder)


@pytest.mark.parametrize("path", ["../other", "/etc/passwd", "sub/../../other", ""])
def test_a_path_outside_the_folder_is_rejected(folder: Path, path: str) -> None:
    files = [{**file.model_dump(), "path": path} for file in describe_files(folder)]
    with pytest.raises(ValidationError):
        manifest(folder, files=files)


def test_a_link_out_of_the_folder_is_rejected(folder: Path) -> None:
    (folder / "sub" / "more.bin").rename(folder.parent / "more.bin")
    (folder / "sub" / "more.bin").symlink_to(folder.parent / "more.bin")
    with pytest.raises(DamagedArtifactError, match="outside"):
        Manifest.read(folder).verify(folder)


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="does not exist"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "- a list", "model: [", "model: yolo\nunknown: 1", "\x00", "a: &a 1\nb: *a", "at: 2026-13-01"]
)
def test_an_invalid_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    with pytest.raises(DamagedArtifactError, match="is not a valid manifest"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("version", ["", "V1", "1+cpu", "a" * 64, "-1", "1-"])
def test_version_names_that_the_model_store_rejects(folder: Path, version: str) -> None:
    with pytest.raises(ValidationError):
        manifest(folder, version=version)


def test_label_names_are_unique(folder: Path) -> None:
    with pytest.raises(ValidationError, match="share a name"):
        manifest(folder, labels=[Label(name="a", ko="ㄱ"), Label(name="a", ko="ㄴ")])


@pytest.mark.parametrize("entry", ["other.bin", "../model.bin", "/etc/passwd", ".", "./model.bin", "su", "sub/", "model.bin/x"])
def test_an_entry_that_is_not_one_of_the_files_is_rejected(folder: Path, entry: str) -> None:
    (folder.parent / "other.bin").write_bytes(b"not verified")
    with pytest.raises(ValidationError, match="entry must be one of files"):
        manifest(folder, entry=entry)


@pytest.mark.parametrize("entry", ["model.bin", "sub/more.bin", "sub"])
def test_an_entry_is_a_file_or_a_folder_of_files(folder: Path, entry: str) -> None:
    assert manifest(folder, entry=entry).entry == entry


def test_an_output_is_read_as_written_and_left_out_without_one(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    detector = manifest(tmp_path, input=ImageInput(size=320), output={"uncertain_below": 0.5})
    detector.write(tmp_path)
    assert Manifest.read(tmp_path) == detector
    manifest(tmp_path).write(tmp_path)
    assert "output" not in (tmp_path / "manifest.yaml").read_text(encoding="utf-8")  # earlier releases reject unknown fields


@pytest.mark.parametrize(
    "changes",
    [
        {"output": {"uncertain_below": 0.5}},  # of texts
        {"input": ImageInput(size=320), "output": {"uncertain_below": 0}},
        {"input": ImageInput(size=320), "output": {"uncertain_below": 1.5}},
        {"input": ImageInput(size=320), "output": {}},
    ],
)
def test_a_wrong_output_is_rejected(folder: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        manifest(folder, **changes)
