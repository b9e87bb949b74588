"""A version's golden samples are untrusted files that the sidecar reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.artifacts.golden import GOLDEN, GoldenPhoto, GoldenText, write_golden
from bunriwiki.artifacts.inputs import Photo
from model_sync.errors import RejectedError
from model_sync.evaluation import golden_samples as module
from model_sync.evaluation.golden_samples import golden_samples


def photo(folder: Path, name: str) -> None:
    write_golden(folder, [GoldenPhoto(image=name, confidence=0.3, detections=())])


def test_photos_and_texts_become_inputs(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"a photo")
    photo(tmp_path, "one.jpg")
    [(given, _)] = golden_samples("yolo", tmp_path)
    assert given == Photo(data=b"a photo", confidence=0.3)
    write_golden(tmp_path, [GoldenText(text="가", details={"a": 1})])
    [(given, _)] = golden_samples("kcbert", tmp_path)
    assert given == "가"


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "x" * 5000, "a\0b", "/dev/zero", ".", "gone.jpg"])
def test_only_files_in_the_versions_folder_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "version"
    folder.mkdir()
    photo(folder, name)
    with pytest.raises(RejectedError, match=r"golden sample '"):
        list(golden_samples("yolo", folder))


def test_large_files_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PHOTO_BYTES", 5)
    (tmp_path / "one.jpg").write_bytes(b"a photo")
    photo(tmp_path, "one.jpg")
    with pytest.raises(RejectedError, match="has more than"):
        list(golden_samples("yolo", tmp_path))
    monkeypatch.setattr(module, "MAX_BYTES", 5)
    with pytest.raises(RejectedError, match=r"golden\.jsonl' has more than"):
        list(golden_samples("yolo", tmp_path))


def test_missing_or_invalid_samples_reject_the_version(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"golden sample 'golden\.jsonl' does not exist"):
        list(golden_samples("kcbert", tmp_path))
    (tmp_path / GOLDEN).write_text("{}")
    with pytest.raises(RejectedError, match="has no valid samples"):
        list(golden_samples("kcbert", tmp_path))
