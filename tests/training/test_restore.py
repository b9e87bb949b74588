from __future__ import annotations

import copy
from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from ultralytics.nn.tasks import DetectionModel

from bunriwiki.artifacts.image import decode
from bunriwiki.testing.paths import PHOTOS
from training.restore import restore

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of ultralytics and torch

SIZE = 64


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    made: torch.nn.Module = DetectionModel("yolov8n.yaml", nc=6, verbose=False).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".bn." in name:
                parameter.uniform_(0.5, 1.5)
    return made


def test_a_restored_network_answers_as_the_served_one(tmp_path: Path) -> None:
    served = copy.deepcopy(network(1)).fuse(verbose=False)
    weights = [
        numpy_helper.from_array(tensor.half().numpy() if "cv2" in name else tensor.numpy(), f"network.{name}{suffix}")
        for name, tensor in served.state_dict().items()
        for suffix in [".half" if "cv2" in name else ""]
    ]
    onnx.save(helper.make_model(helper.make_graph([], "served", [], [], weights)), tmp_path / "model.onnx")
    fresh = network(2)
    photos = sorted(PHOTOS.glob("*.jpg"))
    restore(tmp_path / "model.onnx", fresh, photos, SIZE)
    square = torch.from_numpy(decode(photos[0].read_bytes(), SIZE)[0][None])
    with torch.inference_mode():
        expected, found = (one(square)[0] for one in (served, fresh))
    assert found[:, 4:] == pytest.approx(expected[:, 4:], abs=0.01)
    fresh.train()  # the normalisations are those of the photos, so that training continues from what was learned
    trained = fresh(square)
    assert trained is not None
    assert fresh.model[0].bn.running_var.min() > 0


def test_a_weight_that_is_missing(tmp_path: Path) -> None:
    onnx.save(helper.make_model(helper.make_graph([], "served", [], [])), tmp_path / "model.onnx")
    with pytest.raises(KeyError, match=r"model\.0\.conv\.weight"):
        restore(tmp_path / "model.onnx", network(1), [], SIZE)
