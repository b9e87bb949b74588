from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from training import fetch_grounds


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a test", "-c", "user.email=a@test"]
    ran = subprocess.run(["git", "-C", folder, *settings, *arguments], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def jpeg(size: tuple[int, int]) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, "green").save(made, "JPEG")
    return made.getvalue()


def test_each_photo_is_fetched_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "somebody" / "photos"
    source.mkdir(parents=True)
    git(source, "init", "-q")
    git(source, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub does
    for name, size in {"small": (300, 200), "large": (1000, 500)}.items():
        (source / f"{name}.jpg").write_bytes(jpeg(size))
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "photos")
    commit = git(source, "rev-parse", "HEAD")
    (source / "small.jpg").write_bytes(jpeg((30, 20)))
    git(source, "commit", "-q", "-am", "another photo under the name")

    head = "file\trepository\tcommit\tpath\tlicence\tpublished_at\n"
    rows = [f"{name}-1.jpg\tsomebody/photos\t{commit}\t{name}.jpg\tCC0\t\n" for name in ("small", "large")]
    (tmp_path / "grounds.tsv").write_text(head + "".join(rows), encoding="utf-8")
    monkeypatch.setattr(fetch_grounds, "LIST", tmp_path / "grounds.tsv")
    assert fetch_grounds.fetch(tmp_path / "grounds", f"file://{tmp_path}") == 2
    assert (tmp_path / "grounds" / "small-1.jpg").read_bytes() == jpeg((300, 200))
    with Image.open(tmp_path / "grounds" / "large-1.jpg") as large:
        assert large.size == (640, 320)
