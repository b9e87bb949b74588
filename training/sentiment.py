"""Train the sentiment ensemble on film reviews and log it as an MLflow pyfunc.

Data: the raw reviews of NSMC (github.com/e9t/nsmc, CC0), a tab-separated file `id, rating, review` with ratings 1-10,
plain or xz. Ratings 1-4 are `부정`, 5-8 `중립/복합`, 9-10 `긍정`; classes are balanced by leaving out reviews of the
larger ones. The split is by a hash of the review's text, so equal reviews never stand on both sides.

    python -m training.sentiment --data reviews.tsv.xz --output build/sentiment
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import zlib
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from scipy import sparse
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import ComplementNB

from training import sentiment_model as model

log = logging.getLogger("training.sentiment")

HELD_OUT = 0.03  # of all reviews, for validation and again for test
Arrays = dict[str, npt.NDArray[Any]]


def load_reviews(path: Path, seed: int) -> dict[str, pd.DataFrame]:
    """The balanced splits `train`, `validation` and `test`, each with the columns `review` and `label` (0..2)."""
    reviews = pd.read_csv(path, sep="\t", quoting=3, dtype={"review": str}, keep_default_na=False)
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


def inverse_document_frequency(counts: sparse.csr_matrix, at_least: int) -> npt.NDArray[np.float32]:
    """Smoothed IDF per bucket; 0 for buckets seen in fewer than `at_least` texts, which removes them."""
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log((1 + counts.shape[0]) / (1 + frequency)) + 1
    return np.where(frequency >= at_least, idf, 0).astype(np.float32)


def logistic(features: sparse.csr_matrix, labels: npt.NDArray[Any], seed: int, strength: float) -> tuple[Any, Any]:
    """Multinomial logistic regression; the coefficients as [features, 3] and the intercepts as [3]."""
    used = np.flatnonzero(np.diff(features.tocsc().indptr))
    classifier = LogisticRegression(C=strength, max_iter=60, tol=1e-3, random_state=seed)
    classifier.fit(features[:, used], labels)
    coefficients = np.zeros((features.shape[1], 3), dtype=np.float32)
    coefficients[used] = classifier.coef_.T
    return coefficients, classifier.intercept_.astype(np.float32)


def fit_members(train: pd.DataFrame, seed: int) -> Arrays:
    """The three members' weights (see `training.sentiment_model`)."""
    texts, labels = train["review"].tolist(), train["label"].to_numpy()
    weights: Arrays = {}
    for kind, strength in (("char", 2.0), ("word", 2.0)):
        started = time.monotonic()
        counts = model.vectorizer(kind).transform(texts)
        idf = inverse_document_frequency(counts, at_least=3)
        weights[f"{kind}_idf"] = idf
        features = model.tf_idf(counts, idf)
        features.eliminate_zeros()
        coefficients, bias = logistic(features, labels, seed, strength)
        weights[f"{kind}_lr_coef"], weights[f"{kind}_lr_bias"] = coefficients, bias
        log.info("%s_lr fitted on %s in %.0f s", kind, features.shape, time.monotonic() - started)
        if kind == "char":
            bayes = ComplementNB(alpha=0.5, norm=False).fit(counts, labels)
            coefficients = np.where(idf[:, None] > 0, bayes.feature_log_prob_.T, 0)
            weights["char_nb_coef"] = (coefficients - coefficients.mean(axis=1, keepdims=True)).astype(np.float32)
            log.info("char_nb fitted")
    return weights


def fit_vote(validation: pd.DataFrame, weights: Arrays) -> Arrays:
    """Temperatures and shares that minimise the log loss on validation data."""
    labels = validation["label"].to_numpy()
    logits = model.member_logits(validation["review"].tolist(), weights)
    fitted: Arrays = {}

    def loss_at(logs: npt.NDArray[Any], name: str) -> float:
        return float(log_loss(labels, model.softmax(logits[name] / np.exp(logs[0]))))

    for name in logits:
        best = minimize(loss_at, np.zeros(1), args=(name,), method="Nelder-Mead")
        fitted[f"{name}_temperature"] = np.array(np.exp(best.x[0]), dtype=np.float32)
        accuracy = float((logits[name].argmax(axis=1) == labels).mean())
        log.info("%s: accuracy %.4f, log loss %.4f on validation", name, accuracy, best.fun)

    def vote_loss(free: npt.NDArray[Any]) -> float:
        shares = np.exp(free[:3]) / np.exp(free[:3]).sum()
        trial = {**fitted, "shares": shares, "temperature": np.exp(free[3])}
        return float(log_loss(labels, model.vote(logits, trial)))

    best = minimize(vote_loss, np.zeros(4), method="Nelder-Mead", options={"maxiter": 400})
    fitted["shares"] = (np.exp(best.x[:3]) / np.exp(best.x[:3]).sum()).astype(np.float32)
    fitted["temperature"] = np.array(np.exp(best.x[3]), dtype=np.float32)
    log.info("shares %s, temperature %.3f", fitted["shares"], fitted["temperature"])
    return fitted


def evaluate(split: pd.DataFrame, weights: Arrays) -> dict[str, float]:
    """Accuracy over three classes, and of `긍정` against `부정` alone."""
    labels = split["label"].to_numpy()
    probabilities = model.vote(model.member_logits(split["review"].tolist(), weights), weights)
    polar = labels != 2
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "polar_accuracy": float((probabilities[polar, :2].argmax(axis=1) == labels[polar]).mean()),
        "log_loss": float(log_loss(labels, probabilities)),
        "samples": float(len(labels)),
    }


def save(weights: Arrays, output: Path) -> None:
    """Write the pyfunc to `output`, a folder that must not exist yet."""
    scratch = output.with_name("weights.npz")
    small: dict[str, Any] = {name: array.astype(np.float16) if array.ndim else array for name, array in weights.items()}
    np.savez_compressed(scratch, **small)
    mlflow.pyfunc.save_model(
        path=output,
        python_model=model.__file__,
        artifacts={"weights": str(scratch)},
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "text")]),
            outputs=Schema([ColSpec(DataType.string, "label"), *(ColSpec(DataType.double, name) for name in model.LABELS)]),
        ),
        input_example=pd.DataFrame({"text": ["정말 재미있어요", "돈이 아깝다"]}),
        pip_requirements=["mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy"],
    )
    scratch.unlink()
    _forget_paths(output / "MLmodel")


def _forget_paths(mlmodel: Path) -> None:
    """MLflow notes where the code and the weights lay on this machine; what it needs of them is the name."""
    described = yaml.safe_load(mlmodel.read_text(encoding="utf-8"))
    flavor = described["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    mlmodel.write_text(yaml.safe_dump(described, allow_unicode=True, sort_keys=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reviews.tsv or reviews.tsv.xz")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pyfunc")
    parser.add_argument("--limit", type=int, default=0, help="train on this many reviews only (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    splits = load_reviews(arguments.data, arguments.seed)
    train = splits["train"].head(arguments.limit) if arguments.limit else splits["train"]
    log.info("reviews: %s", {name: len(split) for name, split in {**splits, "train": train}.items()})
    weights = fit_members(train, arguments.seed)
    weights |= fit_vote(splits["validation"], weights)
    figures = evaluate(splits["test"], weights)
    save(weights, arguments.output)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
