from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_sync.sources import RemoteFile, SourceError
from model_sync.sources.local import LocalSource


def write_version(folder: Path, modified: int, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    os.utime(folder, (modified, modified))


@pytest.fixture
def source(tmp_path: Path) -> LocalSource:
    return LocalSource({"yolo": tmp_path / "yolo"})


def test_the_version_modified_last_is_the_newest(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v9", 1_000, weights="old")
    write_version(tmp_path / "yolo" / "v10", 2_000, weights="new")
    offer = source.newest("yolo")
    assert offer
    assert (offer.model, offer.version, offer.uri) == ("yolo", "v10", str(tmp_path / "yolo" / "v10"))
    assert source.files(offer) == (RemoteFile("weights", 3),)


def test_what_is_hidden_or_incomplete_or_empty_is_no_version(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / ".v1", 4_000, weights="hidden")
    write_version(tmp_path / "yolo" / "v2", 3_000, **{"weights": "half", ".incomplete": ""})
    write_version(tmp_path / "yolo" / "v3", 2_000)
    (tmp_path / "yolo" / "README").touch()
    assert source.newest("yolo") is None
    (tmp_path / "yolo" / "v2" / ".incomplete").unlink()
    offer = source.newest("yolo")
    assert offer
    assert offer.version == "v2"


def test_another_file_is_another_offer(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v1", 1_000, weights="one")
    first = source.newest("yolo")
    assert first
    assert source.newest("yolo") == first
    (tmp_path / "yolo" / "v1" / "weights").write_text("other")
    second = source.newest("yolo")
    assert second
    assert second.digest != first.digest
    with pytest.raises(SourceError, match="has changed since it was offered"):
        source.files(first)


def test_a_download_copies_over_what_is_there(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v1", 1_000, weights="weights")
    offer = source.newest("yolo")
    assert offer
    part = tmp_path / "weights.part"
    part.write_text("something longer than the weights")
    source.download(offer, RemoteFile("weights", 7), part)
    assert part.read_text() == "weights"
    with pytest.raises(SourceError, match="cannot be read"):
        source.download(offer, RemoteFile("gone", 7), part)


def test_a_folder_that_is_not_there_is_an_error_and_a_model_without_one_is_none(source: LocalSource) -> None:
    assert source.newest("kcbert") is None
    with pytest.raises(SourceError, match="the versions of yolo cannot be read"):
        source.newest("yolo")
