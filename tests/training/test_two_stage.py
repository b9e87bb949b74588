"""The graph of two networks with random weights answers as the networks do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.ops import xywh2xyxy

from bunriwiki.artifacts.golden import read_golden_photos
from bunriwiki.artifacts.image import decode
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.testing.paths import PHOTOS
from runners.yolo import Yolo
from training import two_stage
from training.candidates import CANDIDATES
from training.efficientnet import EfficientNet
from training.materials import MARGIN, crop
from training.photos import CLASSES, LabelledPhoto
from training.two_stage import SECOND_ON_BOX, Calibration, TwoStage, _crop, _pool, compile_two_stages, export

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of ultralytics, torch and onnx

SIDE = 256
CALIBRATION = Calibration(1.5, -0.5)


def first_stage() -> torch.nn.Module:
    """A network that finds many objects: its normalisations are those of the photos, so that no activation vanishes."""
    torch.manual_seed(3)
    network: torch.nn.Module = DetectionModel("yolov8n.yaml", nc=len(CLASSES), verbose=False)
    network.names = dict(enumerate(CLASSES))
    with torch.no_grad():
        for branch in network.model[-1].cv3:
            branch[-1].bias.fill_(-3)
            branch[-1].weight.mul_(3)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()
        network(torch.from_numpy(read_squares(SIDE // 2)))
    return network.eval()


def second_stage() -> EfficientNet:
    torch.manual_seed(4)
    return EfficientNet(len(CLASSES) + 1)


def read_squares(side: int) -> np.ndarray:
    return np.stack([decode(photo.read_bytes(), side)[0] for photo in sorted(PHOTOS.glob("*.jpg"))])


@pytest.fixture
def squares() -> np.ndarray:
    return read_squares(SIDE)


def test_the_graph_answers_as_both_networks_do(squares: np.ndarray) -> None:
    network = TwoStage(first_stage(), second_stage(), CALIBRATION)
    with torch.inference_mode():
        expected = [network(torch.from_numpy(square[None]))[0][0].T.numpy() for square in squares]
    session = ort.InferenceSession(export(network, SIDE).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(squares: np.ndarray, confidence: float) -> dict[str, np.ndarray]:
        thresholds = {"iou": np.array([0.5], np.float32), "confidence": np.array([confidence], np.float32)}
        return dict(zip(names, session.run(names, {"images": squares, **thresholds}), strict=True))

    found = run(squares, 0.0)
    assert sum(len(one) for one in expected) > len(squares)
    for index, one in enumerate(expected):
        mine = found["images_index"] == index
        assert mine.sum() == len(one) <= CANDIDATES
        assert found["boxes"][mine] == pytest.approx(xywh2xyxy(torch.from_numpy(one[:, :4])).numpy(), abs=0.1)
        assert found["class_scores"][mine] == pytest.approx(one[:, 4:], abs=0.005)
        assert (found["classes"][mine] == one[:, 4:].argmax(axis=1)).all()
    assert (found["scores"] == found["class_scores"].max(axis=1)).all()

    # The confidence is of the scores of both stages.
    middle = float(np.median(found["scores"]))
    fewer = run(squares, middle)
    assert (fewer["scores"] > middle).all()
    assert len(fewer["scores"]) == (found["scores"] > middle).sum()

    # Fewer boxes in smaller squares, and photos without boxes.
    for side, most in ((192, 4), (128, 2), (64, 1)):
        small = run(squares[:, :, :side, :side], 0.0)
        assert np.bincount(small["images_index"]).max() == most
        assert small["class_scores"].shape == (len(small["boxes"]), len(CLASSES))
    assert not len(run(squares, 0.9999)["boxes"])


def test_a_crop_in_the_graph_is_as_in_training(squares: np.ndarray) -> None:
    photo = (squares[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    box = torch.tensor([60.0, 200.0, 50.0, 90.0])  # reaches beyond the square
    mine = _crop(torch.from_numpy(squares[:1]), box)[0].numpy().transpose(1, 2, 0) * 255
    other = crop(photo, box[:2].numpy() - 0.5, float(MARGIN * 90))
    assert np.abs(mine - other).mean() < 3


def test_both_stages_have_a_say() -> None:
    first = torch.tensor([[0.8, 0.2, 0, 0, 0, 0]])
    agreeing = torch.tensor([[0.9, 0.02, 0.02, 0.02, 0.02, 0.02, 0.0]])
    contradicting = torch.tensor([[0.05, 0.9, 0.02, 0.01, 0.01, 0.01, 0.0]])
    empty = torch.tensor([[0.09, 0.002, 0.002, 0.002, 0.002, 0.002, 0.9]])
    scores = [_pool(first, second)[0] for second in (agreeing, contradicting, empty)]
    assert [int(one.argmax()) for one in scores] == [0, 1, 0]
    assert float(scores[0].sum()) == pytest.approx(0.8 ** (1 - SECOND_ON_BOX))  # a mean of 0.8 and 1
    assert scores[1].max() < scores[0].max()
    assert float(scores[2].sum()) == pytest.approx(0.8 ** (1 - SECOND_ON_BOX) * 0.1**SECOND_ON_BOX)


def test_a_version_is_compiled_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = sorted(PHOTOS.glob("*.jpg"))
    made = YOLO("yolov8n.yaml", task="detect")
    made.model = first_stage()
    made.save(tmp_path / "first.pt")
    torch.save(second_stage().state_dict(), tmp_path / "second.pt")
    given: list[float] = []

    def fit(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
        given.extend(scores)
        return 1.5, -0.5  # networks that have learned nothing have nothing to calibrate

    monkeypatch.setattr(two_stage, "fit", fit)
    judged = [LabelledPhoto(photo, (0,), np.array([[0.5, 0.5, 0.5, 0.5]])) for photo in photos]
    manifest = compile_two_stages(
        tmp_path / "first.pt",
        tmp_path / "second.pt",
        tmp_path / "yolo",
        version="v1",
        source="a test",
        size=SIDE,
        calibrated_on=judged,
        golden=photos,
        uncertain_below=0.5,
    )
    assert manifest == Manifest.read(tmp_path / "yolo")
    assert len(given) == len(photos)
    assert any(sample.detections for sample in read_golden_photos(tmp_path / "yolo"))
    served = Yolo(tmp_path / "yolo")
    served.warm_up()
    assert served.predict([Photo(data=photos[0].read_bytes())]).version == "v1"
