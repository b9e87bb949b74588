"""Fetch photos from public repositories on GitHub: backgrounds, and objects in rooms and in hands.

Three lists name each photo: its file, the repository with commit and path, its licence, and where it was first published. The
commit pins the content. A photo that is embedded in a source file, in base64, has its number after `#` in the path.

- `grounds.tsv`: what `training.composites` places objects on. COCO's photos without bottles, cups or glasses, and floors from a
  data set of clothes (CC0, CC BY 2.0 or CC BY-SA 2.0).
- `objects.tsv`: photos with the class and box of each object, as the rows of a label file with `;` between them. Waste of a
  household on a grey floor, cans and bottles on floors (both CC0 1.0), drinks in an office (MIT), and parcels in entrances
  (stated to be in the public domain). The boxes were made here: from the plain floor, by an earlier detector and looked at, or
  by hand; the parcels' are the data set's own.
- `other_places.tsv`: the same, for photos to judge by. Bottles and cups in hands, on tables and floors (CC BY 4.0, © Data
  Cluster Labs), and drink cartons in a hand before a shelf (MIT, Copyright (c) 2019 Marcus Klasson). The bottles' boxes are the
  data set's own, some corrected, and their materials were read from the photos; the cartons' boxes were made here by hand. Most
  bottles lie on their side in the file: `turned` says by how many degrees, clockwise, they are set upright.

    python -m training.fetch_photos --data DIR
"""

from __future__ import annotations

import base64
import csv
import io
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import httpx
from PIL import Image, ImageOps
from tqdm import tqdm

from training.arguments import parser

LISTS = {name: Path(__file__).with_name(f"{name}.tsv") for name in ("grounds", "objects", "other_places")}
GITHUB = "https://github.com"
LONGEST = 640  # pixels
EMBEDDED = re.compile(rb'"([A-Za-z0-9+/=]{500,})"')


def fetch(data: Path, github: httpx.Client) -> dict[str, int]:
    """Write the photos of each list to the folder of its name in `data`; with labels, to `images/` and `labels/` in it.

    Returns their numbers. Raises httpx.HTTPError if one cannot be fetched.
    """

    @lru_cache(maxsize=1)  # the photos that are embedded in a file follow one another in the list
    def read(repository: str, commit: str, path: str) -> bytes:
        return github.get(f"/{repository}/raw/{commit}/{quote(path)}").raise_for_status().content

    counts = {}
    for name, listed in LISTS.items():
        rows = list(csv.DictReader(listed.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
        for row in tqdm(rows, name):
            path, _, number = row["path"].partition("#")
            content = read(row["repository"], row["commit"], path)
            original = base64.b64decode(EMBEDDED.findall(content)[int(number)]) if number else content
            photo = _small(original, turned=int(row.get("turned") or 0))
            if "objects" in row:
                _write(data / name / "images" / row["file"], photo)
                label = (data / name / "labels" / row["file"]).with_suffix(".txt")
                _write(label, row["objects"].replace(";", "\n").encode() + b"\n")
            else:
                _write(data / name / row["file"], photo)
        counts[name] = len(rows)
    return counts


def _small(photo: bytes, *, turned: int) -> bytes:
    """A JPEG of at most LONGEST pixels per side, turned clockwise by so many degrees; a small upright JPEG is unchanged."""
    with Image.open(io.BytesIO(photo)) as image:
        if image.format == "JPEG" and max(image.size) <= LONGEST and image.getexif().get(0x0112, 1) == 1 and not turned:
            return photo
        upright = ImageOps.exif_transpose(image).rotate(-turned, expand=True).convert("RGB")
        upright.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        made = io.BytesIO()
        upright.save(made, "JPEG", quality=92)
        return made.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    given = parser(__doc__).parse_args()
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(base_url=GITHUB, follow_redirects=True, timeout=60, transport=transport) as github:
        counts = fetch(given.data, github)
    for name, count in counts.items():
        print(f"{count} photos in {given.data / name}")


if __name__ == "__main__":
    main()
