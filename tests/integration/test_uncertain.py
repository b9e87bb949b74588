"""A detector whose manifest says when a detection is uncertain, at the real service, which serves it with a smaller square."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from bunriwiki.artifacts.answers import Detections
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.settings import Settings
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import MODELS, PHOTOS
from bunriwiki.testing.server import Server
from bunriwiki.testing.untrained import untrained_detector
from runners import yolo

PHOTO = (PHOTOS / "plastic_bottle.jpg").read_bytes()
OWN_SIZE, SERVED_SIZE = 160, 96
UNCERTAIN_BELOW = 0.3

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),  # torch's own use of itself
    pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning"),  # ultralytics' anchors
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the exporters' libraries
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled text models, and an untrained detector."""
    from model_sync.importing.compilers.yolo import compile_yolo  # noqa: PLC0415  (loads torch, which other tests here do not)

    root = tmp_path_factory.mktemp("models")
    for model in ("kcbert", "sentiment"):
        shutil.copytree(MODELS / model, root / model)
    compile_yolo(
        finding(untrained_detector(root / "best.pt")),
        root / "yolo",
        version="unsure",
        source="a test",
        golden=[PHOTOS / "can.jpg"],
        size=OWN_SIZE,
        uncertain_below=UNCERTAIN_BELOW,
    )
    return root


def finding(weights: Path) -> Path:
    """Changes an untrained detector so that it finds many objects; it is sure of the class of large ones."""
    import torch  # noqa: PLC0415  (the same)
    from ultralytics import YOLO  # noqa: PLC0415

    torch.manual_seed(1)
    detector = YOLO(weights)
    branches = [branch[-1] for branch in detector.model.model[-1].cv3]  # for small, medium and large objects
    for branch in branches:
        torch.nn.init.normal_(branch.weight, std=0.5)
        torch.nn.init.constant_(branch.bias, -1.0)
    branches[-1].bias.data[0] = 1.0  # a score of 0.73, the others have 0.27
    detector.save(weights)
    return weights


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], models: Path) -> Server:
    return start(grpc=True, environment={"BUNRIWIKI_MODELS": str(models), "BUNRIWIKI_YOLO_SIZE": str(SERVED_SIZE)})


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    response = CLIENT.post(
        server.url + "/yolo/prediction",
        params={"advice": "true"},
        content=PHOTO,
        headers={"Content-Type": "image/jpeg"},
    )
    assert (response.status_code, response.headers["X-Model-Version"]) == (200, "unsure")
    answer: dict[str, Any] = response.json()
    return answer


def test_an_uncertain_object_says_how_to_tell_and_gets_no_bin(answer: dict[str, Any]) -> None:
    unsure = [found for found in answer["detections"] if found["uncertain"]]
    assert 0 < len(unsure) < len(answer["detections"])
    for found in unsure:
        assert found["label_ko"] == "재질을 알 수 없음"
        assert found["how_to_tell"].endswith("다.")
    certain = {found["label"] for found in answer["detections"] if not found["uncertain"]}
    assert {label for label, advice in answer["advice"].items() if advice} == certain


def test_the_tensors_say_the_same(server: Server, answer: dict[str, Any]) -> None:
    expected = [found["uncertain"] for found in answer["detections"]]
    image = {
        "name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PHOTO).decode()],
        "parameters": {"content_type": "base64"},
    }  # fmt: skip
    outputs = CLIENT.post(server.url + "/v2/models/yolo/infer", json={"inputs": [image]}).json()["outputs"]
    assert outputs[-1] == {"name": "uncertain", "datatype": "BOOL", "shape": [len(expected)], "data": expected}

    call = pb.ModelInferRequest(model_name="yolo")
    call.inputs.add(name="image", datatype="BYTES", shape=[1])
    call.raw_input_contents.append(len(PHOTO).to_bytes(4, "little") + PHOTO)
    with grpc.insecure_channel(server.grpc_address) as channel:
        raw = GRPCInferenceServiceStub(channel).ModelInfer(call, timeout=30)
    assert (raw.outputs[-1].name, raw.outputs[-1].datatype) == ("uncertain", "BOOL")
    assert np.frombuffer(raw.raw_output_contents[-1], dtype=np.bool_).tolist() == expected


def test_the_smaller_square_serves(models: Path, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def detected(size: int) -> list[dict[str, Any]]:
        monkeypatch.setattr(yolo, "settings", lambda: Settings(yolo_size=size))
        [found] = yolo.Yolo(models / "yolo").predict([Photo(data=PHOTO)]).results
        assert isinstance(found, Detections)
        detections: list[dict[str, Any]] = msgspec.to_builtins(found)["detections"]
        return detections

    scores, boxes = ([found[field] for found in answer["detections"]] for field in ("score", "box"))
    smaller, own = detected(SERVED_SIZE), detected(OWN_SIZE)
    assert scores == pytest.approx([found["score"] for found in smaller], abs=1e-5)
    assert [len(smaller), *boxes[0]] != [len(own), *own[0]["box"]]
