from __future__ import annotations

import base64
import csv
import io
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from training import fetch_photos
from training.photos import load_photos


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
    embedded = [base64.b64encode(jpeg(size)).decode() for size in ((30, 40), (50, 60))]
    (source / "photos.ts").write_text("".join(f'"data:{index}", "{photo}",\n' for index, photo in enumerate(embedded)))
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "photos")
    commit = git(source, "rev-parse", "HEAD")
    (source / "small.jpg").write_bytes(jpeg((30, 20)))
    git(source, "commit", "-q", "-am", "another photo under the name")

    head = "file\trepository\tcommit\tpath\tlicence\tpublished_at"
    rows = [f"{name}-1.jpg\tsomebody/photos\t{commit}\t{name}.jpg\tCC0\t\n" for name in ("small", "large")]
    (tmp_path / "grounds.tsv").write_text(f"{head}\n" + "".join(rows), encoding="utf-8")
    boxes = "2 0.5 0.5 0.2 0.3;4 0.1 0.1 0.1 0.1"
    row = f"can.jpg\tsomebody/photos\t{commit}\tphotos.ts#1\tMIT\t\t{boxes}\n"
    (tmp_path / "objects.tsv").write_text(f"{head}\tobjects\n{row}", encoding="utf-8")
    lists = {name: tmp_path / f"{name}.tsv" for name in ("grounds", "objects")}
    monkeypatch.setattr(fetch_photos, "LISTS", lists)
    assert fetch_photos.fetch(tmp_path, f"file://{tmp_path}") == {"grounds": 2, "objects": 1}
    assert (tmp_path / "grounds" / "small-1.jpg").read_bytes() == jpeg((300, 200))
    with Image.open(tmp_path / "grounds" / "large-1.jpg") as large:
        assert large.size == (640, 320)
    [photo] = load_photos(tmp_path / "objects")
    assert photo.path.read_bytes() == jpeg((50, 60))
    assert (photo.categories, photo.boxes[1].tolist()) == ((2, 4), [0.1] * 4)


@pytest.mark.parametrize("name", fetch_photos.LISTS)
def test_each_listed_photo_has_a_commit_and_a_licence(name: str) -> None:
    rows = list(csv.DictReader(fetch_photos.LISTS[name].read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    assert len({row["file"] for row in rows}) == len(rows)
    for row in rows:
        assert len(row["commit"]) == 40
        assert row["licence"] in {"CC0", "CC0 1.0", "CC BY 2.0", "CC BY-SA 2.0", "MIT", "public domain"}
