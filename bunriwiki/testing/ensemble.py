"""An ordinary sentiment ensemble, as somebody without this project would make it: TF-IDF and two scikit-learn members."""

from __future__ import annotations

import json
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import infer_signature
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB

from bunriwiki.artifacts.reference import ReferenceText, read_reference_texts, write_reference
from bunriwiki.testing.paths import MODELS

HELD_OUT = 3  # every third review of the bundled reference set is not trained on
WORDS = 6000  # of the vocabulary, that the bundled model labels for the training
PHRASES = 3000  # of a few words of the reviews, likewise
REVIEW_WEIGHT = 5.0  # of a review that people labelled, beside what the bundled model labelled

CODE = """
import pickle

import mlflow
import pandas as pd


class Ensemble(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        with open(context.artifacts["members"], "rb") as stream:
            self.vectorizer, self.members, self.labels = pickle.load(stream)

    def predict(self, context, model_input, params=None):
        texts = self.vectorizer.transform(model_input["text"])
        scores = sum(member.predict_proba(texts) for member in self.members) / len(self.members)
        return pd.DataFrame(scores, columns=self.labels)


mlflow.models.set_model(Ensemble())
"""


@dataclass(frozen=True)
class Ensemble:
    """The fitted vectorizer, the members, and the names of the classes in the order of the members' scores."""

    vectorizer: TfidfVectorizer
    members: Sequence[Any]
    labels: tuple[str, ...]

    def renamed(self, names: Mapping[str, str]) -> Ensemble:
        """The same with other names for the classes."""
        return Ensemble(self.vectorizer, self.members, tuple(names[label] for label in self.labels))

    def save(self, folder: Path) -> Path:
        """Write it to `folder` as an MLflow pyfunc."""
        work = folder.with_name(f"{folder.name}-parts")
        work.mkdir(parents=True)
        (work / "ensemble.py").write_text(CODE, encoding="utf-8")
        (work / "members.pickle").write_bytes(pickle.dumps((self.vectorizer, self.members, list(self.labels))))
        texts = pd.DataFrame({"text": ["좋아요"]})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # MLflow recommends type hints and an example
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(work / "ensemble.py"),
                artifacts={"members": str(work / "members.pickle")},
                signature=infer_signature(texts, pd.DataFrame([[0.5, 0.3, 0.2]], columns=list(self.labels))),
                pip_requirements=[f"{name}=={version(name)}" for name in ("scikit-learn", "pandas")],
            )
        return folder


def split() -> tuple[list[ReferenceText], list[ReferenceText]]:
    """The reviews of the bundled reference set to train on, and those that are held out."""
    reviews = read_reference_texts(MODELS / "sentiment")
    return [review for number, review in enumerate(reviews) if number % HELD_OUT], reviews[::HELD_OUT]


def write_held_out(folder: Path) -> Path:
    """Write the held-out reviews to `folder` as the reference set of sentiment."""
    (folder / "sentiment").mkdir(parents=True)
    write_reference(folder / "sentiment", split()[1])
    return folder


def train() -> Ensemble:
    """An ensemble, from 400 labelled reviews, and from words and phrases that the bundled model labels. Takes half a minute.

    So few reviews alone make one that is 13 points of macro F1 below the bundled model, which was trained on 329,445.
    """
    reviews, _ = split()
    unlabelled = list(_unlabelled(reviews))
    texts = [review.text for review in reviews] + unlabelled
    labels = [review.label for review in reviews] + _labelled_by_the_bundled_model(unlabelled)
    weights = [REVIEW_WEIGHT] * len(reviews) + [1.0] * len(unlabelled)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    vectors = vectorizer.fit_transform(texts)
    linear, bayes = LogisticRegression(C=3, max_iter=300), ComplementNB()
    for member in (linear, bayes):
        member.fit(vectors, labels, sample_weight=weights)
    return Ensemble(vectorizer, (linear, bayes), tuple(map(str, linear.classes_)))


def _unlabelled(reviews: Sequence[ReferenceText]) -> Iterator[str]:
    choose = random.Random(0)  # noqa: S311 (no secret)
    vocabulary = json.loads((MODELS / "kcbert" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(
        word.removeprefix("##") for word in vocabulary if len(word.removeprefix("##")) > 1 and "가" <= word[-1] <= "힣"
    )
    yield from choose.sample(words, WORDS)
    yield from (comment.text for comment in read_reference_texts(MODELS / "kcbert"))
    spoken = [word for review in reviews for word in review.text.split()]
    for _ in range(PHRASES):
        yield " ".join(choose.choices(spoken, k=choose.randint(2, 6)))


def _labelled_by_the_bundled_model(texts: Sequence[str]) -> list[str]:
    model = mlflow.pyfunc.load_model(str(MODELS / "sentiment" / "pyfunc"))
    labels: list[str] = []
    for start in range(0, len(texts), 64):
        labels += model.predict(pd.DataFrame({"text": texts[start : start + 64]}))["label"].tolist()
    return labels
