"""Fetch the photos of backgrounds that `training.composites` places objects on.

`grounds.tsv` names each: its file, the public repository on GitHub with commit and path, its licence (CC0, CC BY 2.0 or
CC BY-SA 2.0), and where it was first published. The commit pins the content. They are COCO's photos without bottles, cups or
glasses, and floors from a data set of clothes.

    python -m training.fetch_grounds --data DIR
"""

from __future__ import annotations

import csv
import io
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from training.arguments import parser

LIST = Path(__file__).with_name("grounds.tsv")
GITHUB = "https://github.com"
LONGEST = 640  # pixels


def fetch(output: Path, host: str = GITHUB) -> int:
    """Write the photos to `output`; returns their number. Raises CalledProcessError if git cannot fetch one."""
    rows = list(csv.DictReader(LIST.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        clones: dict[str, Path] = {}
        for row in tqdm(rows, "grounds"):
            if row["repository"] not in clones:
                clones[row["repository"]] = _clone(
                    f"{host}/{row['repository']}", row["commit"], Path(scratch) / str(len(clones))
                )
            photo = _git(clones[row["repository"]], "cat-file", "blob", f"{row['commit']}:{row['path']}")
            (output / row["file"]).write_bytes(_small(photo))
    return len(rows)


def _clone(url: str, commit: str, folder: Path) -> Path:
    folder.mkdir()
    _git(folder, "init", "-q")
    _git(folder, "fetch", "-q", "--depth", "1", url, commit)
    return folder


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


def main() -> None:
    given = parser(__doc__).parse_args()
    count = fetch(given.data / "grounds")
    print(f"{count} photos in {given.data / 'grounds'}")


if __name__ == "__main__":
    main()
