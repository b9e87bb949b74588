from __future__ import annotations

import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from bunriwiki.artifacts.image import decode
from bunriwiki.testing.paths import PHOTOS
from training import calibration
from training.calibration import answers, calibrate, fit
from training.metrics import calibration_error
from training.photos import LabelledPhoto

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of ultralytics and torch

SIZE = 64


def test_fitted_scores_are_probabilities() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.05, 0.95, 4000)
    right = (rng.random(4000) < truth).astype(float)
    logits = np.log(truth / (1 - truth))
    scores = 1 / (1 + np.exp(-(2 * logits - 1.5)))  # overconfident and too low
    scale, shift = fit(scores, right)
    assert (scale, shift) == pytest.approx((0.5, 0.75), abs=0.1)
    fitted = 1 / (1 + np.exp(-(scale * np.log(scores / (1 - scores)) + shift)))
    assert calibration_error(fitted, right > 0) < 0.03 < calibration_error(scores, right > 0)


def test_scores_that_say_nothing() -> None:
    with pytest.raises(ValueError, match="not more often right"):
        fit(np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.0, 0, 1, 1]))


def test_the_network_gives_calibrated_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = DetectionModel("yolov8n.yaml", nc=6, verbose=False).eval()
    photos = [LabelledPhoto(path, (0,), np.array([[0.5, 0.5, 0.5, 0.5]])) for path in sorted(PHOTOS.glob("*.jpg"))[:3]]
    square = torch.from_numpy(decode(photos[0].path.read_bytes(), SIZE)[0][None])
    with torch.inference_mode():
        before = torch.logit(network(square)[0][:, 4:])
    monkeypatch.setattr(calibration, "fit", lambda scores, right: (0.5, 4.0))
    assert calibrate(network, photos, SIZE) == (0.5, 4.0)
    with torch.inference_mode():
        after = torch.logit(network(square)[0][:, 4:])
    assert after == pytest.approx(0.5 * before + 4, abs=0.02)
    assert all(len(found.scores) and found.scores.min() > 0.01 for found in answers(network, photos, SIZE))
