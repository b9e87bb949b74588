"""Comments on Korean entertainment news, labelled by people: `none`, `offensive`, `hate`.

Data: korean-hate-speech (github.com/kocohub/korean-hate-speech, CC BY-SA 4.0; Moon, Cho, Lee, SocialNLP 2020),
`korean_hate_speech/train.tsv` and `dev.tsv`, tab-separated `comments, contain_gender_bias, bias, hate`. The dev set is for
evaluation, as in the paper, and is never used for training or tuning; validation is a tenth of the training set, by a hash of
the text.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import pandas as pd

from training.arguments import needed

LABELS = ("none", "offensive", "hate")
HELD_OUT = 0.1


def load_comments(data: Path) -> dict[str, pd.DataFrame]:
    """`train`, `validation` and `test`, each with `comment` and `label` (index of LABELS)."""
    folder = data / "korean_hate_speech"
    known, test = (_read(folder / name) for name in ("train.tsv", "dev.tsv"))
    held_out = known["comment"].map(lambda text: zlib.crc32(text.encode()) / 2**32) < HELD_OUT
    return {"train": known[~held_out], "validation": known[held_out], "test": test}


def _read(path: Path) -> pd.DataFrame:
    rows = pd.read_csv(needed(path), sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)
    return pd.DataFrame(
        {
            "comment": rows["comments"].str.strip(),
            "label": rows["hate"].map(LABELS.index),
        }
    )
