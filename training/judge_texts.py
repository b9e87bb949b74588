"""Evaluates the classifiers of texts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score
from tqdm import tqdm

from bunriwiki.artifacts.answers import Classification
from runners.kcbert import KcBert
from runners.models import TextClassifier
from runners.sentiment import Sentiment
from training.cards import Report, table
from training.comments import LABELS as HATE
from training.comments import load_comments
from training.metrics import calibration_error, macro_f1_interval
from training.reviews import LABELS as SENTIMENTS
from training.reviews import load_reviews

AT_ONCE = 64
TIMED = 300  # texts, sent one at a time
SHOWN = 15  # examples
SPLIT_SEED = 0  # which reviews balance the classes


def judge_kcbert(folder: Path, data: Path) -> Report:
    """Evaluate on the dev set of korean-hate-speech."""
    test = load_comments(data)["test"]
    return _judge(KcBert(folder), HATE, test["comment"].tolist(), test["label"].tolist())


def judge_sentiment(folder: Path, data: Path) -> Report:
    """Evaluate on the test split of NSMC's reviews."""
    test = load_reviews(data, SPLIT_SEED)["test"]
    return _judge(Sentiment(folder), SENTIMENTS, test["review"].tolist(), test["label"].tolist())


def _judge(classifier: TextClassifier, names: Sequence[str], texts: Sequence[str], truth: Sequence[int]) -> Report:
    answers = _answers(classifier, texts)
    labels = np.array(truth)
    scores = np.array([[answer.details[name] for name in names] for answer in answers])
    chosen = scores.argmax(axis=1)
    right = chosen == labels
    low, high = macro_f1_interval(labels, chosen)
    polar = {}
    if names == SENTIMENTS:
        sure = labels != SENTIMENTS.index("중립/복합")
        polar = {"`긍정` against `부정`, accuracy": f"{(scores[sure, :2].argmax(axis=1) == labels[sure]).mean():.3f}"}
    figures = {
        "texts": f"{len(texts):,}",
        "macro-F1 (95 % interval, bootstrap)": f"{f1_score(labels, chosen, average='macro'):.3f} ({low:.3f} to {high:.3f})",
        "accuracy": f"{right.mean():.3f}",
        **polar,
        "log loss": f"{-np.log(scores[np.arange(len(labels)), labels] + 1e-9).mean():.3f}",
        "expected calibration error": f"{calibration_error(scores.max(axis=1), right):.3f}",
    }
    counts = confusion_matrix(labels, chosen, labels=range(len(names)))
    matrix = table(["true, answered", *names], [[f"**{name}**", *row] for name, row in zip(names, counts, strict=True)])
    worst = sorted(np.flatnonzero(~right).tolist(), key=lambda one: -scores[one].max())[:SHOWN]
    worst_rows = [[_cell(texts[one]), names[labels[one]], names[chosen[one]], f"{scores[one].max():.3f}"] for one in worst]
    examples = [
        "## The worst\n",
        table(["text", "true", "answered", "score"], worst_rows),
        "\n## The slowest\n",
        table(["text", "ms"], _slowest(classifier, texts)),
    ]
    return Report(figures, matrix, "\n".join(examples))


def _answers(classifier: TextClassifier, texts: Sequence[str]) -> list[Classification]:
    found: list[Classification] = []
    for start in tqdm(range(0, len(texts), AT_ONCE), classifier.version):
        for result in classifier.predict(texts[start : start + AT_ONCE]).results:
            if not isinstance(result, Classification):
                raise TypeError(f"no answer: {result.message}")
            found.append(result)
    return found


def _slowest(classifier: TextClassifier, texts: Sequence[str]) -> list[list[str]]:
    timed = []
    for text in texts[:TIMED]:
        started = time.perf_counter()
        classifier.predict([text])
        timed.append((1000 * (time.perf_counter() - started), text))
    middle = sorted(timed)[len(timed) // 2]
    slowest = [[_cell(text), f"{took:.1f}"] for took, text in sorted(timed, reverse=True)[:SHOWN]]
    return [*slowest, ["(the median)", f"{middle[0]:.1f}"]]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")[:120]
