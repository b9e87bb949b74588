"""Fetch photos from public repositories on GitHub: backgrounds, and objects in rooms and in hands.

Two lists name each photo: its file, the repository with commit and path, its licence, and where it was first published. The
commit pins the content. A photo that is embedded in a source file, in base64, has its number after `#` in the path.

- `grounds.tsv`: what `training.composites` places objects on. COCO's photos without bottles, cups or glasses, and floors from a
  data set of clothes (CC0, CC BY 2.0 or CC BY-SA 2.0).
- `objects.tsv`: photos with the class and box of each object, as the rows of a label file with `;` between them. Waste of a
  household on a grey floor, cans and bottles on floors (both CC0 1.0), drinks in an office (MIT), and parcels in entrances
  (stated to be in the public domain). The boxes were made here: from the plain floor, by an earlier detector and looked at, or
  by hand; the parcels' are the data set's own.

    python -m training.fetch_photos --data DIR
"""

from __future__ import annotations

import base64
import csv
import io
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from training.arguments import parser

LISTS = {"grounds": Path(__file__).with_name("grounds.tsv"), "objects": Path(__file__).with_name("objects.tsv")}
GITHUB = "https://github.com"
LONGEST = 640  # pixels
EMBEDDED = re.compile(rb'"([A-Za-z0-9+/=]{500,})"')


def fetch(data: Path, host: str = GITHUB) -> dict[str, int]:
    """Write the photos of each list to the folders `grounds` and `objects` (`images/`, `labels/`) of `data`.

    Returns their numbers. Raises CalledProcessError if git cannot fetch one.
    """
    counts = {}
    with tempfile.TemporaryDirectory() as scratch:
        repositories = _Repositories(host, Path(scratch))
        for name, listed in LISTS.items():
            rows = list(csv.DictReader(listed.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
            for row in tqdm(rows, name):
                photo = _small(repositories.read(row["repository"], row["commit"], row["path"]))
                if "objects" in row:
                    _write(data / name / "images" / row["file"], photo)
                    label = (data / name / "labels" / row["file"]).with_suffix(".txt")
                    _write(label, row["objects"].replace(";", "\n").encode() + b"\n")
                else:
                    _write(data / name / row["file"], photo)
            counts[name] = len(rows)
    return counts


class _Repositories:
    """Commits of repositories, each fetched when it is first read."""

    def __init__(self, host: str, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._clones: dict[tuple[str, str], Path] = {}

    def read(self, repository: str, commit: str, path: str) -> bytes:
        """A file of the commit, or the photo in it that the number after `#` names."""
        clone = self._clones.get((repository, commit))
        if clone is None:
            clone = self._clones[repository, commit] = self._folder / str(len(self._clones))
            clone.mkdir()
            _git(clone, "init", "-q")
            _git(clone, "fetch", "-q", "--depth", "1", f"{self._host}/{repository}", commit)
        path, _, number = path.partition("#")
        content = _git(clone, "cat-file", "blob", f"{commit}:{path}")
        return base64.b64decode(EMBEDDED.findall(content)[int(number)]) if number else content


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.PIPE).stdout  # noqa: S603, S607


def _small(photo: bytes) -> bytes:
    """A JPEG of at most LONGEST pixels per side; a small upright JPEG is returned unchanged."""
    with Image.open(io.BytesIO(photo)) as image:
        if image.format == "JPEG" and max(image.size) <= LONGEST and image.getexif().get(0x0112, 1) == 1:
            return photo
        upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        made = io.BytesIO()
        upright.save(made, "JPEG", quality=92)
        return made.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    given = parser(__doc__).parse_args()
    for name, count in fetch(given.data).items():
        print(f"{count} photos in {given.data / name}")


if __name__ == "__main__":
    main()
