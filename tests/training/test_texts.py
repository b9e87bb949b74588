"""The splits of comments and reviews."""

from __future__ import annotations

import lzma
from pathlib import Path

from training.comments import load_comments
from training.reviews import LABELS, load_reviews


def write_comments(data: Path) -> None:
    folder = data / "korean_hate_speech"
    folder.mkdir(parents=True)
    head = "comments\tcontain_gender_bias\tbias\thate\n"
    rows = [f"댓글 {index}\tFalse\tnone\t{('none', 'offensive', 'hate')[index % 3]}\n" for index in range(300)]
    (folder / "train.tsv").write_text(head + "".join(rows), encoding="utf-8")
    (folder / "dev.tsv").write_text(head + '"따옴표는 글자다\tFalse\tnone\thate\n' + "".join(rows[:29]), encoding="utf-8")


def test_comments(tmp_path: Path) -> None:
    write_comments(tmp_path)
    splits = load_comments(tmp_path)
    assert len(splits["train"]) + len(splits["validation"]) == 300
    assert 15 < len(splits["validation"]) < 45
    assert len(splits["test"]) == 30
    assert splits["test"].iloc[0].to_dict() == {"comment": '"따옴표는 글자다', "label": 2}
    assert not set(splits["train"]["comment"]) & set(splits["validation"]["comment"])


def test_reviews(tmp_path: Path) -> None:
    (tmp_path / "nsmc").mkdir()
    rows = [f"{index}\t{1 + index % 10}\t영화 평 {index}\n" for index in range(3000)]
    rows += ["1\t10\t두 번\n", "2\t10\t두 번\n", "3\t1\t \n"]
    with lzma.open(tmp_path / "nsmc" / "reviews.tsv.xz", "wt", encoding="utf-8") as file:
        file.write("id\trating\treview\n" + "".join(rows))
    splits = load_reviews(tmp_path, seed=0)
    seen: set[str] = set()
    for split in splits.values():
        counts = split["label"].value_counts()
        assert counts.nunique() == 1  # balanced
        assert len(counts) == len(LABELS)
        assert not seen & set(split["review"])
        seen |= set(split["review"])
    assert "" not in seen
    every = {text: label for split in splits.values() for text, label in zip(split["review"], split["label"], strict=True)}
    assert {LABELS[every[f"영화 평 {index}"]] for index in range(3000) if index % 10 == 9 and f"영화 평 {index}" in every} == {
        "긍정"
    }
