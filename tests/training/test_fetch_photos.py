from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from training import fetch_photos
from training.photos import load_photos, other_places

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def jpeg(size: tuple[int, int]) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, "green").save(made, "JPEG")
    return made.getvalue()


class GitHub:
    """Has the files of one commit, and redirects to them as GitHub does."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.read: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "github.com":
            return httpx.Response(302, headers={"Location": f"https://raw.test{request.url.raw_path.decode()}"})
        self.read.append(request.url.path)
        content = self.files.get(request.url.path.removeprefix(f"/somebody/photos/raw/{COMMIT}/"))
        return httpx.Response(404) if content is None else httpx.Response(200, content=content)

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=fetch_photos.GITHUB, follow_redirects=True, transport=httpx.MockTransport(self))


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "file\trepository\tcommit\tpath\tlicence\tpublished_at"
    rows = [f"{name}-1.jpg\tsomebody/photos\t{COMMIT}\tmy photos/{name}.jpg\tCC0\t\n" for name in ("small", "large")]
    (tmp_path / "grounds.tsv").write_text(f"{head}\n" + "".join(rows), encoding="utf-8")
    boxes = ("2 0.5 0.5 0.2 0.3;4 0.1 0.1 0.1 0.1", "1 0.5 0.5 0.2 0.3")
    rows = [f"{index}.jpg\tsomebody/photos\t{COMMIT}\tphotos.ts#{index}\tMIT\t\t{boxes[index]}\n" for index in (0, 1)]
    (tmp_path / "objects.tsv").write_text(f"{head}\tobjects\n" + "".join(rows), encoding="utf-8")
    monkeypatch.setattr(fetch_photos, "LISTS", {name: tmp_path / f"{name}.tsv" for name in ("grounds", "objects")})


@pytest.mark.usefixtures("lists")
def test_each_photo_is_fetched(tmp_path: Path) -> None:
    sizes = ((30, 40), (50, 60))
    embedded = (f'"data:{index}", "{base64.b64encode(jpeg(size)).decode()}",\n' for index, size in enumerate(sizes))
    files = {"my photos/small.jpg": jpeg((300, 200)), "my photos/large.jpg": jpeg((1000, 500))}
    github = GitHub({**files, "photos.ts": "".join(embedded).encode()})
    assert fetch_photos.fetch(tmp_path, github.client) == {"grounds": 2, "objects": 2}
    assert len(github.read) == 3  # a file with many photos once
    assert (tmp_path / "grounds" / "small-1.jpg").read_bytes() == jpeg((300, 200))
    with Image.open(tmp_path / "grounds" / "large-1.jpg") as large:
        assert large.size == (640, 320)
    one, other = load_photos(tmp_path / "objects")
    assert (one.path.read_bytes(), other.path.read_bytes()) == (jpeg(sizes[0]), jpeg(sizes[1]))
    assert (one.categories, one.boxes[1].tolist(), other.categories) == ((2, 4), [0.1] * 4, (1,))


def test_a_photo_that_lies_on_its_side_is_set_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))  # on the left: a quarter of a turn clockwise brings it to the top
    image.save(tmp_path / "side.png")
    listed = tmp_path / "other_places.tsv"
    listed.write_text(
        "file\trepository\tcommit\tpath\tobjects\tturned\n"
        f"a-1.jpg\tsomebody/photos\t{COMMIT}\tside.png\t4 0.5 0.25 1 0.5\t90\n"
        f"a-2.jpg\tsomebody/photos\t{COMMIT}\tside.png\t4 0.25 0.5 0.5 1\t\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(fetch_photos, "LISTS", {"other_places": listed})
    fetch_photos.fetch(tmp_path, GitHub({"side.png": (tmp_path / "side.png").read_bytes()}).client)
    for photo, shape in zip(other_places(tmp_path)["a"], [(40, 20, 3), (20, 40, 3)], strict=True):
        with Image.open(photo.path) as image:
            pixels = np.asarray(image)
        assert pixels.shape == shape
        assert pixels[10, 10] == pytest.approx([0, 0, 255], abs=30)  # blue


@pytest.mark.usefixtures("lists")
def test_a_photo_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        fetch_photos.fetch(tmp_path, GitHub({}).client)


@pytest.mark.parametrize("name", fetch_photos.LISTS)
def test_each_listed_photo_has_a_commit_and_a_licence(name: str) -> None:
    rows = list(csv.DictReader(fetch_photos.LISTS[name].read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    assert len({row["file"] for row in rows}) == len(rows)
    for row in rows:
        assert len(row["commit"]) == 40
        assert row["licence"] in {"CC0", "CC0 1.0", "CC BY 2.0", "CC BY 4.0", "CC BY-SA 2.0", "MIT", "public domain"}
