"""Film reviews with their ratings, split into training, validation and test.

Data: the raw reviews of NSMC (github.com/e9t/nsmc, CC0), `nsmc/reviews.tsv.xz`: tab-separated `id, rating, review`, ratings
1-10. 1-4 are `부정`, 5-8 `중립/복합`, 9-10 `긍정`. The split is by a hash of the review's text, so equal reviews are never in
two splits.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from training.arguments import needed

LABELS = ("긍정", "부정", "중립/복합")
HELD_OUT = 0.03  # of all reviews, for validation and again for test


def load_reviews(data: Path, seed: int) -> dict[str, pd.DataFrame]:
    """The splits `train`, `validation` and `test`, each with the columns `review` and `label` (0..2).

    The classes of each split are balanced by leaving out reviews of the larger ones; `seed` decides which.
    """
    path = needed(data / "nsmc" / "reviews.tsv.xz")
    reviews = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype={"review": str}, keep_default_na=False)
    reviews["review"] = reviews["review"].str.strip()
    reviews = reviews[reviews["review"] != ""].drop_duplicates("review")
    reviews["label"] = np.select([reviews["rating"] >= 9, reviews["rating"] <= 4], [0, 1], default=2)
    bucket = reviews["review"].map(lambda text: zlib.crc32(text.encode()) / 2**32)
    parts = {
        "test": bucket < HELD_OUT,
        "validation": (bucket >= HELD_OUT) & (bucket < 2 * HELD_OUT),
        "train": bucket >= 2 * HELD_OUT,
    }
    splits = {}
    for name, mask in parts.items():
        part = reviews[mask]
        smallest = part["label"].value_counts().min()
        balanced = part.groupby("label").sample(smallest, random_state=seed)
        splits[name] = balanced.sample(frac=1, random_state=seed)[["review", "label"]]
    return splits
