from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from model_sync.errors import SourceError
from model_sync.sources import MAX_SIGNATURE_CHARACTERS, RemoteFile
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


def test_hidden_incomplete_and_empty_folders_are_ignored(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / ".v1", 4_000, weights="hidden")
    write_version(tmp_path / "yolo" / "v2", 3_000, **{"weights": "half", ".incomplete": ""})
    write_version(tmp_path / "yolo" / "v3", 2_000)
    (tmp_path / "yolo" / "README").touch()
    assert source.newest("yolo") is None
    (tmp_path / "yolo" / "v2" / ".incomplete").unlink()
    offer = source.newest("yolo")
    assert offer
    assert offer.version == "v2"


def test_a_changed_file_changes_the_offer(source: LocalSource, tmp_path: Path) -> None:
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


def test_a_download_replaces_the_part(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v1", 1_000, weights="weights")
    offer = source.newest("yolo")
    assert offer
    part = tmp_path / "weights.part"
    part.write_text("something longer than the weights")
    source.download(offer, RemoteFile("weights", 7), part, threading.Event())
    assert part.read_text() == "weights"
    with pytest.raises(SourceError, match="cannot be read"):
        source.download(offer, RemoteFile("gone", 7), part, threading.Event())


def test_a_missing_folder_is_an_error_and_a_model_without_a_folder_has_no_version(source: LocalSource) -> None:
    assert source.newest("kcbert") is None
    with pytest.raises(SourceError, match="the versions of yolo cannot be read"):
        source.newest("yolo")


def test_the_signature_is_not_part_of_the_version(source: LocalSource, tmp_path: Path) -> None:
    folder = tmp_path / "yolo" / "v1"
    write_version(folder, 1_000, weights="weights")
    unsigned = source.newest("yolo")
    assert unsigned
    assert unsigned.signature is None
    for signature in ("c2ln\n", ""):
        (folder / "signature").write_text(signature)
        assert source.newest("yolo") == replace(unsigned, signature=signature)
    assert source.files(unsigned) == (RemoteFile("weights", 7),)
    (folder / "signature").write_bytes(b"\xff" * 10_000_000)
    huge = source.newest("yolo")
    assert huge
    assert len(huge.signature or "") == MAX_SIGNATURE_CHARACTERS + 1


def test_a_file_named_signature_in_a_subfolder_is_part_of_the_version(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v1" / "signature", 1_000, signature="a file of the model")
    offer = source.newest("yolo")
    assert offer
    assert offer.signature is None
    assert source.files(offer) == (RemoteFile("signature/signature", 19),)


def test_a_folder_with_only_a_signature_is_ignored(source: LocalSource, tmp_path: Path) -> None:
    write_version(tmp_path / "yolo" / "v1", 1_000, signature="c2ln")
    assert source.newest("yolo") is None


def test_a_download_that_is_no_longer_wanted_ends(tmp_path: Path) -> None:
    version = tmp_path / "registry" / "v1"
    version.mkdir(parents=True)
    (version / "weights").write_bytes(b"bytes")
    source = LocalSource({"yolo": tmp_path / "registry"})
    offer = source.newest("yolo")
    assert offer
    stop = threading.Event()
    stop.set()
    with pytest.raises(SourceError, match="cancelled"):
        source.download(offer, RemoteFile("weights", 5), tmp_path / "part", stop)
