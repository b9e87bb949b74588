"""Make `models/`, the fallback models of the repository, from trained weights.

    python -m training.ship --yolo best.pt --photos DIR --kcbert DIR --comments dev.tsv --sentiment DIR --reviews reviews.tsv.xz

Each folder under `models/` is replaced as a whole: manifest, served form, and golden samples with the original's answers.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from model_sync.importing.kcbert import compile_kcbert
from model_sync.importing.sentiment import package_sentiment
from model_sync.importing.yolo import compile_yolo
from training.sentiment import load_reviews

MODELS = Path(__file__).parent.parent / "models"
VERSION = "fallback-1"
GOLDEN = 64
IMAGE_SIZE = 288  # a fifth cheaper than the 320 of the photos, and no worse


def evenly(items: Sequence[str], count: int) -> list[str]:
    """`count` items, spread evenly over `items`."""
    return [items[index * len(items) // count] for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in {
        "yolo": "ultralytics checkpoint (a pickle: of your own only)",
        "photos": "folder of JPEG photos for the golden samples",
        "kcbert": "Hugging Face folder",
        "comments": "tab-separated file with a column `comments`",
        "sentiment": "MLflow pyfunc folder",
        "reviews": "the reviews that `training.sentiment` was given",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    given = parser.parse_args()

    for name in ("yolo", "kcbert", "sentiment"):
        shutil.rmtree(MODELS / name, ignore_errors=True)
    photos = evenly(sorted(str(path) for path in given.photos.glob("*.jpg")), GOLDEN)
    compile_yolo(
        given.yolo,
        MODELS / "yolo",
        version=VERSION,
        source="YOLOv8s fine-tuned on TrashNet photos",
        size=IMAGE_SIZE,
        golden=[Path(photo) for photo in photos],
    )
    with given.comments.open(encoding="utf-8") as stream:
        comments = [row["comments"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    compile_kcbert(
        given.kcbert,
        MODELS / "kcbert",
        version=VERSION,
        source="a small BERT with KcBERT's vocabulary, pre-trained on NSMC, fine-tuned on korean-hate-speech",
        golden=evenly(comments, GOLDEN),
    )
    package_sentiment(
        given.sentiment,
        MODELS / "sentiment",
        version=VERSION,
        source="three linear models on NSMC, soft vote",
        golden=evenly(load_reviews(given.reviews, seed=0)["test"]["review"].tolist(), GOLDEN),
    )


if __name__ == "__main__":
    main()
