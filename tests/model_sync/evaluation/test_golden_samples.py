"""A version's golden samples are other people's files, and are read in the sidecar."""

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
    [(asked, _)] = golden_samples("yolo", tmp_path)
    assert asked == Photo(data=b"a photo", confidence=0.3)
    write_golden(tmp_path, [GoldenText(text="가", details={"a": 1})])
    [(asked, _)] = golden_samples("kcbert", tmp_path)
    assert asked == "가"


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "x" * 5000, "a\0b", "/dev/zero", ".", "gone.jpg"])
def test_nothing_but_a_file_of_the_version_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "version"
    folder.mkdir()
    photo(folder, name)
    with pytest.raises(RejectedError, match=r"golden sample '"):
        list(golden_samples("yolo", folder))


def test_what_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PHOTO_BYTES", 5)
    (tmp_path / "one.jpg").write_bytes(b"a photo")
    photo(tmp_path, "one.jpg")
    with pytest.raises(RejectedError, match="has more than"):
        list(golden_samples("yolo", tmp_path))
    monkeypatch.setattr(module, "MAX_BYTES", 5)
    with pytest.raises(RejectedError, match=r"golden\.jsonl' has more than"):
        list(golden_samples("yolo", tmp_path))


def test_samples_that_are_none_reject_the_version(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="there is no golden sample"):
        list(golden_samples("kcbert", tmp_path))
    (tmp_path / GOLDEN).write_text("{}")
    with pytest.raises(RejectedError, match="holds no samples"):
        list(golden_samples("kcbert", tmp_path))
