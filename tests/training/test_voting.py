from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from training.sentiment_model import softmax, vote
from training.voting import fit_vote

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 900)
RIGHT = np.eye(3)[LABELS]


def member(signal: float, scale: float) -> np.ndarray:
    return scale * (signal * RIGHT + RNG.normal(size=(900, 3)))


def test_an_overconfident_member_is_cooled() -> None:
    calm = member(1.0, 1.0)
    fitted = fit_vote({"calm": calm, "loud": 5 * calm}, LABELS)
    assert fitted["loud_temperature"] == pytest.approx(5 * fitted["calm_temperature"], rel=0.05)


def test_the_better_member_has_the_larger_share_and_the_vote_is_better_than_both() -> None:
    logits = {"good": member(1.5, 1.0), "poor": member(0.7, 3.0)}
    fitted = fit_vote(logits, LABELS)
    assert fitted["shares"].sum() == pytest.approx(1, abs=1e-3)
    assert fitted["shares"][0] > fitted["shares"][1] > 0.05
    together = log_loss(LABELS, vote(logits, fitted))
    for name, found in logits.items():
        assert together < log_loss(LABELS, softmax((found / fitted[f"{name}_temperature"]).astype(np.float32)))


def test_every_class_has_the_same_weight() -> None:
    """A rare class counts as much as the others: a member that never names it is not better."""
    labels = np.where(RNG.random(900) < 0.05, 2, RNG.integers(0, 2, 900))
    right = np.eye(3)[labels]
    blind = 2 * right + RNG.normal(size=(900, 3))
    blind[:, 2] = -10
    fair = 1.5 * right + RNG.normal(size=(900, 3))
    assert fit_vote({"blind": blind, "fair": fair}, labels)["shares"][1] > 0.5
