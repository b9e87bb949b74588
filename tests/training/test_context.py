from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from ultralytics import YOLO

from bunriwiki.testing.paths import PHOTOS
from training import context
from training.photos import CLASSES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of ultralytics, torch and tensorboard


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few photos as all the data."""
    photos = sorted(PHOTOS.glob("*.jpg"))
    names = {
        "recyclables": [f"can{10 * index}" for index in range(len(photos))],
        "objects": [f"household-{index:04}" for index in range(len(photos))],
        "litter": [f"taco-ccby-b01-s900{index}-000{index}" for index in range(len(photos))],
    }
    for folder, stems in names.items():
        for part in ("images", "labels"):
            (tmp_path / folder / part).mkdir(parents=True)
        for index, (stem, photo) in enumerate(zip(stems, photos, strict=True)):
            shutil.copyfile(photo, tmp_path / folder / "images" / f"{stem}.jpg")
            (tmp_path / folder / "labels" / f"{stem}.txt").write_text(f"{index % 6} 0.5 0.5 0.6 0.6\n")
    shutil.copytree(PHOTOS, tmp_path / "grounds")
    (tmp_path / "taco").mkdir()
    outline = {"image_id": 0, "bbox": [20, 20, 60, 60], "segmentation": [[20, 20, 80, 20, 80, 80, 20, 80]]}
    described = {"images": [{"id": 0, "width": 100, "height": 100}], "annotations": [outline]}
    (tmp_path / "taco" / "annotations.json").write_text(json.dumps(described))
    return tmp_path


def test_trains(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        YOLO("yolov8n.yaml", task="detect").save(tmp_path / "start.pt")
    output = tmp_path / "output"
    monkeypatch.setattr(context, "SMALL", context.SMALL | {"imgsz": 64, "epochs": 1})
    monkeypatch.setattr(context, "OF_MANY_SIZES", context.OF_MANY_SIZES | {"imgsz": 64})
    monkeypatch.setattr(context, "COMPOSITES", 2)
    monkeypatch.setattr(context, "calibrate", lambda network, photos, size: (1.0, 0.0))  # of a network that has learned nothing
    paths = ["--data", str(data), "--output", str(output), "--start", str(tmp_path / "start.pt")]
    monkeypatch.setattr("sys.argv", ["context", *paths, "--epochs", "1", "--bfloat16"])
    context.main()
    assert list(YOLO(output / "calibrated.pt").names.values()) == list(CLASSES)
    lines = (output / "train.txt").read_text(encoding="utf-8").splitlines()
    assert {Path(line).parents[1].name for line in lines} == {
        "composites",
        "crops",
        "objects",
        "pasted",
        "recyclables",
        "litter",
    }
    for part in (output / "small", output):
        assert "train/box_loss" in (part / "run" / "results.csv").read_text(encoding="utf-8")


def test_without_a_start(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["context", "--data", str(data), "--start", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="start from models/yolo"):
        context.main()
