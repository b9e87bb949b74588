"""The soft vote of an ensemble: temperatures and shares, found on validation data."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.metrics import f1_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight

from training.linear import Arrays
from training.sentiment_model import softmax, vote

log = logging.getLogger("training.voting")


def fit_vote(logits: dict[str, npt.NDArray[Any]], labels: npt.NDArray[Any]) -> Arrays:
    """`<member>_temperature` for each, `shares` in the order of their names, and the ensemble's `temperature`.

    They minimise the log loss, with the same weight for every class (temperature scaling: Guo et al., ICML 2017).
    """
    weight = compute_sample_weight("balanced", labels)
    fitted: Arrays = {}

    def loss_at(logs: npt.NDArray[Any], name: str) -> float:
        return float(log_loss(labels, softmax(logits[name] / np.exp(logs[0])), sample_weight=weight))

    for name, found in logits.items():
        best = minimize(loss_at, np.zeros(1), args=(name,), method="Nelder-Mead")
        fitted[f"{name}_temperature"] = np.array(np.exp(best.x[0]), dtype=np.float32)
        chosen = found.argmax(axis=1)
        f1 = f1_score(labels, chosen, average="macro")
        log.info("%s: accuracy %.4f, macro-F1 %.4f, log loss %.4f", name, (chosen == labels).mean(), f1, best.fun)

    members = len(logits)

    def vote_loss(free: npt.NDArray[Any]) -> float:
        shares = np.exp(free[:members]) / np.exp(free[:members]).sum()
        candidate = {**fitted, "shares": shares, "temperature": np.exp(free[members])}
        return float(log_loss(labels, vote(logits, candidate), sample_weight=weight))

    best = minimize(vote_loss, np.zeros(members + 1), method="Nelder-Mead", options={"maxiter": 200 * members})
    fitted["shares"] = (np.exp(best.x[:members]) / np.exp(best.x[:members]).sum()).astype(np.float32)
    fitted["temperature"] = np.array(np.exp(best.x[members]), dtype=np.float32)
    chosen = vote(logits, fitted).argmax(axis=1)
    f1 = f1_score(labels, chosen, average="macro")
    shares = ", ".join(f"{name} {share:.2f}" for name, share in zip(sorted(logits), fitted["shares"], strict=True))
    log.info("together: accuracy %.4f, macro-F1 %.4f, log loss %.4f; %s", (chosen == labels).mean(), f1, best.fun, shares)
    return fitted
