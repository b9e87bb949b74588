"""Train the sentiment ensemble on film reviews and save it as an MLflow pyfunc.

Its members are a small BERT (`training.pretraining`, run first if its result does not exist) and a linear model. Data:
`training.reviews`.

    python -m training.sentiment --data DIR --output build/sentiment
"""

from __future__ import annotations

import logging
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.metrics import log_loss
from transformers import AutoModelForSequenceClassification

from bunriwiki.artifacts.manifest import TokensInput
from bunriwiki.artifacts.text import TextEncoder
from model_sync.importing.compilers.kcbert import Classifier, export_classifier
from training import sentiment_model as model
from training.arguments import add_output, add_seed, parser
from training.history import History
from training.linear import Arrays, inverse_document_frequency, logistic
from training.pretraining import pretrain
from training.reviews import LABELS, load_reviews
from training.voting import fit_vote

log = logging.getLogger("training.sentiment")

SEEN_IN = 12  # texts, at least: a rarer n-gram teaches little and takes space
STRENGTH = 2.0  # the inverse of the regularisation
REQUIREMENTS = ("mlflow-skinny", "numpy", "onnxruntime", "pandas", "scikit-learn", "scipy", "tokenizers")


def fit_linear(train: pd.DataFrame) -> Arrays:
    """The linear member: `idf`, `coef` and `bias` (see `training.sentiment_model`)."""
    started = time.monotonic()
    counts = model.count(train["review"].tolist())
    idf = inverse_document_frequency(counts, SEEN_IN)
    features = model.tf_idf(counts, idf)
    features.eliminate_zeros()
    member = logistic(features, train["label"].to_numpy(), strength=STRENGTH, balanced=False)
    log.info("logistic regression fitted on %s in %.0f s", features.shape, time.monotonic() - started)
    return {"idf": idf, **member}


def export_bert(folder: Path, output: Path) -> model.Bert:
    """Export the pre-trained BERT in `folder` in its served form, `bert.onnx` and `tokenizer.json`, to `output`."""
    network = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").float().eval()
    spec = TokensInput(max_tokens=model.MAX_TOKENS, vocabulary=network.config.vocab_size)
    tokenizer = shutil.copyfile(folder / "tokenizer.json", output / "tokenizer.json")
    onnx.save(export_classifier(Classifier(network).eval(), TextEncoder(tokenizer, spec)), output / "bert.onnx")
    return model.Bert(str(output / "bert.onnx"), str(output / "tokenizer.json"))


def save(weights: Arrays, parts: Path, output: Path) -> None:
    """Write the pyfunc to `output`, a folder that must not exist yet; `parts` has the BERT."""
    small: dict[str, Any] = {name: array.astype(np.float16) if array.ndim else array for name, array in weights.items()}
    np.savez_compressed(parts / "weights.npz", **small)
    mlflow.pyfunc.save_model(
        path=output,
        python_model=model.__file__,
        artifacts={
            "weights": str(parts / "weights.npz"),
            "bert": str(parts / "bert.onnx"),
            "tokenizer": str(parts / "tokenizer.json"),
        },
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.string, "text")]),
            outputs=Schema([ColSpec(DataType.string, "label"), *(ColSpec(DataType.double, name) for name in LABELS)]),
        ),
        input_example=pd.DataFrame({"text": ["정말 재미있어요", "돈이 아깝다"]}),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )
    _forget_paths(output / "MLmodel")


def _forget_paths(mlmodel: Path) -> None:
    """Remove the paths of this machine, which MLflow writes for code and weights: it needs the names only."""
    described = yaml.safe_load(mlmodel.read_text(encoding="utf-8"))
    flavor = described["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    mlmodel.write_text(yaml.safe_dump(described, allow_unicode=True, sort_keys=False), encoding="utf-8")


def begin_history(pretrained: Path, output: Path) -> History:
    """The history of the ensemble, which begins with that of its BERT: the other members are not trained in steps."""
    shutil.rmtree(output / "history", ignore_errors=True)
    if (pretrained / "history").is_dir():  # an earlier version of the training wrote none
        shutil.copytree(pretrained / "history", output / "history")
    return History(output)


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "sentiment")
    add_seed(arguments)
    arguments.add_argument("--pretrained", type=Path, help="folder of the pre-trained BERT (default: beside the output)")
    arguments.add_argument("--limit", type=int, default=0, help="fit the linear member on this many reviews only (0: all)")
    given = arguments.parse_args()

    pretrained = pretrain(given.data, given.pretrained or given.output.parent / "pretrained", seed=given.seed)
    splits = load_reviews(given.data, given.seed)
    train = splits["train"].head(given.limit) if given.limit else splits["train"]
    log.info("reviews: %s", {name: len(split) for name, split in {**splits, "train": train}.items()})
    parts = given.output / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    bert = export_bert(pretrained, parts)
    weights = fit_linear(train)

    texts = {name: splits[name]["review"].tolist() for name in ("validation", "test")}
    found = {name: {"bert": bert.logits(some), "ngrams": model.linear_logits(some, weights)} for name, some in texts.items()}
    weights |= fit_vote(found["validation"], splits["validation"]["label"].to_numpy())
    shutil.rmtree(given.output / "pyfunc", ignore_errors=True)
    save(weights, parts, given.output / "pyfunc")
    labels = splits["test"]["label"].to_numpy()
    probabilities = model.vote(found["test"], weights)
    accuracy, loss = float((probabilities.argmax(axis=1) == labels).mean()), float(log_loss(labels, probabilities))
    log.info("test: accuracy %.4f, log loss %.4f", accuracy, loss)
    with begin_history(pretrained, given.output) as history:
        history.add({"test/accuracy": accuracy, "test/loss": loss}, step=0)


if __name__ == "__main__":
    main()
