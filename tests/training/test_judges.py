"""The evaluation of the bundled models on a little data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bunriwiki.artifacts.reference import read_reference_photos
from bunriwiki.testing.paths import MODELS, PHOTOS
from tests.training.test_texts import write_comments
from training import cards, evaluate, judge_photos
from training.photos import CLASSES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of ultralytics


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every seventh close-up of the reference set as the data, and arbitrary photos as backgrounds."""
    folder = tmp_path / "data"
    for part in ("images", "labels"):
        (folder / "recyclables" / part).mkdir(parents=True)
    close_up = [sample for sample in read_reference_photos(MODELS / "yolo") if sample.kind == "close-up"]
    for sample in close_up[::7]:
        photo = MODELS / "yolo" / sample.image
        shutil.copyfile(photo, folder / "recyclables" / "images" / photo.name)
        row = f"{CLASSES.index(sample.objects[0].label)} 0.5 0.5 0.8 0.8\n"
        (folder / "recyclables" / "labels" / f"{photo.stem}.txt").write_text(row)
    for part in ("images", "labels"):
        (folder / "litter" / part).mkdir(parents=True)
    for index, (scene, photo) in enumerate(zip(["b01-kitchen2", "b02-s0694", "b01-s9999"], PHOTOS.glob("*.jpg"), strict=False)):
        name = f"taco-ccby-{scene}-{index:04}"
        shutil.copyfile(photo, folder / "litter" / "images" / f"{name}.jpg")
        (folder / "litter" / "labels" / f"{name}.txt").write_text("4 0.5 0.5 0.8 0.8\n")
    for part in ("images", "labels"):
        (folder / "other_places" / part).mkdir(parents=True)
    for name in ("bottles-1", "bottles-2", "cartons-1"):
        shutil.copyfile(photo, folder / "other_places" / "images" / f"{name}.jpg")
        (folder / "other_places" / "labels" / f"{name}.txt").write_text("4 0.5 0.5 0.8 0.8\n")
    shutil.copytree(PHOTOS, folder / "grounds")
    write_comments(folder)
    return folder


def test_photos(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_photos, "COMPOSITES", 4)
    report = judge_photos.judge_yolo(MODELS / "yolo", data, tmp_path / "out")
    assert {"photos", "mAP50", "mAP50-95", "AP50 `glass`"} <= report.figures.keys()
    assert 0 <= float(report.figures["mAP50"]) <= 1
    assert report.figures["photos in context"] == "2"  # the third is of no scene that is kept
    assert all(0 <= float(report.figures[f"in context: {name}"]) <= 1 for name in ("mAP50", "right", "wrong advice"))
    assert len(list((tmp_path / "out" / "scenes").iterdir())) == 2
    assert [report.figures[f"photos of {source} in other places"] for source in ("bottles", "cartons")] == ["2", "1"]
    assert all(0 <= float(report.figures[f"{source}: right"]) <= 1 for source in ("bottles", "cartons"))
    assert len(list((tmp_path / "out" / "bottles").iterdir())) == 2
    assert (tmp_path / "out" / "sheet.jpg").is_file()
    assert "| **glass** |" in report.confusion
    assert "In context, by confidence" in report.examples
    assert "The worst" in report.examples
    assert "The slowest" in report.examples


def test_the_card_is_compared_and_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(MODELS / "kcbert", models / "kcbert")
    arguments = [
        "evaluate",
        "--data",
        str(data),
        "--models",
        str(models),
        "--output",
        str(tmp_path / "out"),
        "--only",
        "kcbert",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    evaluate.main()
    assert "has other figures" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments, "--write"])
    evaluate.main()
    assert "| texts | 30 |" in cards.read(models / "kcbert" / "README.md")
    monkeypatch.setattr("sys.argv", arguments)
    evaluate.main()
    assert "has the same figures" in capsys.readouterr().out
    assert "The slowest" in (tmp_path / "out" / "kcbert" / "examples.md").read_text(encoding="utf-8")
