"""The sentiment ensemble as an MLflow model-from-code.

This file travels inside the logged model and is executed at load, so it stands alone: it imports nothing of this
project. The learned parts are `weights.npz`, plain arrays, and `bert.onnx`, so the model keeps working across versions of
scikit-learn: all it asks of the library is `HashingVectorizer`, whose hash (MurmurHash3, 32 bit) is part of its documented
contract.

Two members of different kinds vote:

- `bert`: a small BERT with KcBERT's vocabulary, which sees word order;
- `ngrams`: logistic regression on TF-IDF of hashed character n-grams, which sees spelling.

Each member's logits are divided by its own temperature, then the members' probabilities are averaged with the weights
found on validation data, and the average is sharpened once more so that a score is a calibrated probability.
"""

from __future__ import annotations

import os
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from tokenizers import Tokenizer

LABELS = ("긍정", "부정", "중립/복합")
BUCKETS = 2**20
MAX_TOKENS = 64  # as many as it was trained on
MAX_AT_ONCE = 4  # texts per forward pass, of similar length: half the time of 16, which are padded more

Floats = npt.NDArray[np.float32]


def count(texts: list[str]) -> sparse.csr_matrix:
    """How often each text has each hashed n-gram, 1 to 5 characters long: [texts, BUCKETS]."""
    return HashingVectorizer(
        analyzer="char", ngram_range=(1, 5), n_features=BUCKETS, norm=None, alternate_sign=False, dtype=np.float32
    ).transform(texts)


def tf_idf(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    """Sublinear TF-IDF with rows of length one."""
    data = (1 + np.log(counts.data)) * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(row, data * data, minlength=counts.shape[0])).astype(np.float32)
    data /= np.maximum(lengths, 1e-9)[row]
    return sparse.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)


def softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def linear_logits(texts: list[str], weights: dict[str, npt.NDArray[Any]]) -> Floats:
    """The linear member's logits, [texts, 3]."""
    return tf_idf(count(texts), weights["idf"]) @ weights["coef"] + weights["bias"]


class Bert:
    """The BERT, from a graph that takes `input_ids` and `attention_mask` and gives `scores`."""

    def __init__(self, graph: str, tokenizer: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(4, len(os.sched_getaffinity(0)))
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def logits(self, texts: list[str]) -> Floats:
        """Log probabilities, [texts, 3]: logits but for a constant."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(tokens)), key=lambda position: len(tokens[position]))
        scores = np.empty((len(texts), len(LABELS)), dtype=np.float32)
        for start in range(0, len(order), MAX_AT_ONCE):
            group = order[start : start + MAX_AT_ONCE]
            ids = np.zeros((len(group), len(tokens[group[-1]])), dtype=np.int64)  # 0 is the padding
            for row, position in enumerate(group):
                ids[row, : len(tokens[position])] = tokens[position]
            mask = (ids != 0).astype(np.int64)
            scores[group] = self._session.run(["scores"], {"input_ids": ids, "attention_mask": mask})[0]
        return np.log(scores + 1e-9)


def vote(logits: dict[str, Floats], weights: dict[str, npt.NDArray[Any]]) -> Floats:
    """The ensemble's probabilities, [texts, 3]; rows sum to one."""
    members = [softmax(logits[name] / weights[f"{name}_temperature"]) for name in sorted(logits)]
    average = sum(share * member for share, member in zip(weights["shares"], members, strict=True))
    return softmax(np.log(average + 1e-9) / weights["temperature"])


class SentimentEnsemble(mlflow.pyfunc.PythonModel):
    """A column `text` in; one row per text out: `label`, then a probability per label."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        with np.load(context.artifacts["weights"]) as stored:
            # In C order, or scipy copies all of a matrix for each product.
            self.weights = {name: stored[name].astype(np.float32, order="C") for name in stored.files}
        self.bert = Bert(context.artifacts["bert"], context.artifacts["tokenizer"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        texts = model_input["text"].tolist()
        logits = {"bert": self.bert.logits(texts), "ngrams": linear_logits(texts, self.weights)}
        probabilities = vote(logits, self.weights)
        answer = pd.DataFrame(probabilities.astype(np.float64), columns=list(LABELS))
        answer.insert(0, "label", [LABELS[winner] for winner in probabilities.argmax(axis=1)])
        return answer


mlflow.models.set_model(SentimentEnsemble())
