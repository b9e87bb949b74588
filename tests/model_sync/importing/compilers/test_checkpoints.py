"""A checkpoint is a pickle: it is loaded without running code from it."""

from __future__ import annotations

import os
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from ultralytics import YOLO
from ultralytics.nn.distill_model import DistillationModel

from model_sync.errors import RejectedError
from model_sync.importing.compilers.checkpoints import load_detector
from tests.model_sync.importing.compilers.conftest import CLASSES, SIZE, quiet

pytestmark = pytest.mark.slow


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.fixture(scope="module")
def state(tiny_yolo: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_detector(tiny_yolo).network.state_dict()
    return weights


def test_a_checkpoint_is_loaded(tiny_yolo: Path) -> None:
    detector = load_detector(tiny_yolo)
    assert (detector.names, detector.size) == (CLASSES, SIZE)
    assert {weights.dtype for weights in detector.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolo26n.yaml", "yolov10n.yaml"])
def test_a_checkpoint_of_another_generation_is_loaded(name: str, tmp_path: Path) -> None:
    """It outputs all boxes, whether it was trained for end-to-end inference or not."""
    with quiet():
        YOLO(name, task="detect").save(tmp_path / "best.pt")
    detector = load_detector(tmp_path / "best.pt")
    assert detector.size == 640
    with torch.inference_mode():
        assert detector.network(torch.zeros(1, 3, 64, 64))[0].shape == (1, 84, 84)


@pytest.mark.parametrize("kind", ["pt", "pth", "safetensors", "of the YOLO object"])
def test_a_state_dict_with_its_yaml_is_loaded(
    kind: str, state: dict[str, torch.Tensor], tiny_architecture: Path, tmp_path: Path
) -> None:
    if kind == "safetensors":
        file = tmp_path / "weights.safetensors"
        save_file({name: tensor.clone() for name, tensor in state.items()}, file)
    elif kind == "of the YOLO object":
        file = tmp_path / "weights.pt"
        torch.save({"state_dict": OrderedDict((f"model.{name}", tensor) for name, tensor in state.items())}, file)
    else:
        file = tmp_path / f"weights.{kind}"
        torch.save(state, file)
    detector = load_detector(file, tiny_architecture)
    assert (detector.names, detector.size) == (CLASSES, SIZE)
    for name, tensor in detector.network.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_state_dict_alone_is_rejected(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(RejectedError, match="publish its model's YAML"):
        load_detector(tmp_path / "weights.pt")


def described(architecture: Path, folder: Path, **changes: object) -> Path:
    content = yaml.safe_load(architecture.read_text(encoding="utf-8")) | changes
    file = folder / architecture.name
    file.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": None}, "does not name the classes"),
        ({"names": ["one"]}, "5 classes, and its names are"),
        ({"names": {1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}}, "5 classes, and its names are"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"imgsz": [320, 640]}, "multiple of 32"),
        ({"nc": 7}, "does not fit yolov8n.yaml"),
    ],
)
def test_a_yaml_that_does_not_fit_is_rejected(
    changes: dict[str, object], reason: str, state: dict[str, torch.Tensor], tiny_architecture: Path, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(RejectedError, match=reason):
        load_detector(tmp_path / "weights.pt", described(tiny_architecture, tmp_path, **changes))


def test_an_expression_in_the_yaml_is_not_evaluated(
    state: dict[str, torch.Tensor], tiny_architecture: Path, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "weights.pt")
    trace = tmp_path / "trace"
    for changes in (
        {"activation": f"__import__('pathlib').Path({str(trace)!r}).touch() or nn.SiLU()"},
        {"backbone": [[-1, 1, "torch_safe_load", [str(tmp_path / "evil.pt")]]]},
    ):
        torch.save({"model": Call(os.mkdir, str(trace))}, tmp_path / "evil.pt")
        with pytest.raises(RejectedError, match="does not fit"):
            load_detector(tmp_path / "weights.pt", described(tiny_architecture, tmp_path, **changes))
        assert not trace.exists()


def test_a_pickle_that_calls_something_else_is_rejected_and_nothing_is_called(tmp_path: Path) -> None:
    trace, file = tmp_path / "trace", tmp_path / "best.pt"
    torch.save({"model": Call(os.mkdir, str(trace))}, file)
    with pytest.raises(RejectedError, match=r"best\.pt references posix\.mkdir, which no checkpoint needs: it is not loaded"):
        load_detector(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # what an unrestricted load does


def test_an_allowed_class_cannot_load_another_pickle(tiny_yolo: Path, tmp_path: Path) -> None:
    """DistillationModel is on ultralytics' allow-list, and loads its teacher from a path."""
    trace = tmp_path / "trace"
    torch.save({"model": Call(os.mkdir, str(trace))}, tmp_path / "teacher.pt")
    student = load_detector(tiny_yolo).network
    torch.save({"model": Call(DistillationModel, str(tmp_path / "teacher.pt"), student)}, tmp_path / "best.pt")
    with pytest.raises(RejectedError, match=r"teacher\.pt references types outside"):
        load_detector(tmp_path / "best.pt")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["best.pt", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["random", "cut", "empty"])
def test_a_file_that_is_no_checkpoint_is_rejected(name: str, damage: str, tiny_yolo: Path, tmp_path: Path) -> None:
    whole = tiny_yolo.read_bytes()
    content = {"random": random.Random(1).randbytes(5000), "cut": whole[: len(whole) // 2], "empty": b""}[damage]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RejectedError, match=f"{name} is not a checkpoint \\(is the file complete\\?\\)"):
        load_detector(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "reason"), [("yolov8n-seg.yaml", "SegmentationModel"), ("yolov8n-cls.yaml", "Classification")]
)
def test_a_network_that_is_no_detector_is_rejected(name: str, reason: str, tmp_path: Path) -> None:
    with quiet():
        YOLO(name).save(tmp_path / "best.pt")
    with pytest.raises(RejectedError, match=f"{reason}.*, which is not a YOLO detector"):
        load_detector(tmp_path / "best.pt")


def test_a_checkpoint_without_a_network_is_rejected(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "best.pt")
    with pytest.raises(RejectedError, match="neither a network of ultralytics nor a state dict"):
        load_detector(tmp_path / "best.pt")
    torch.save([torch.zeros(1)], tmp_path / "weights.pth")
    with pytest.raises(RejectedError, match="holds a list"):
        load_detector(tmp_path / "weights.pth")
