from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bunriwiki.artifacts.reference import read_reference_photos
from training import release
from training.photos import HELD_SCENES, LabelledPhoto, load_photos, split_photos
from training.release import RELEASES, release_yolo


def test_photos_of_both_kinds_that_training_never_saw(tmp_path: Path) -> None:
    scene = HELD_SCENES.read_text(encoding="utf-8").split()[0]
    names = {
        "recyclables": [f"can{number}" for number in range(200)],
        "litter": [f"taco-{licence}-{scene}-{number}" for number in range(3) for licence in ("ccby", "odbl")],
        "other_places": [f"{source}-{number}" for source in ("bottles", "cartons") for number in range(4)],
    }
    for folder, stems in names.items():
        for part in ("images", "labels"):
            (tmp_path / folder / part).mkdir(parents=True)
        for stem in stems:
            (tmp_path / folder / "images" / f"{stem}.jpg").touch()
            (tmp_path / folder / "labels" / f"{stem}.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    kept = release.kept_photos(tmp_path, release.Photos(close_up=5, in_kept_scenes=3, of_bottles=2))
    tested = {photo.path for photo in split_photos(load_photos(tmp_path / "recyclables"))["test"]}
    assert len(kept["close-up"]) == 5
    assert {photo.path for photo in kept["close-up"]} <= tested
    assert [photo.path.stem for photo in kept["context"]] == [
        *(f"taco-ccby-{scene}-{number}" for number in range(3)),
        "bottles-0",
        "bottles-2",
    ]


@pytest.mark.parametrize("name", RELEASES)
def test_a_model_that_was_not_trained_cannot_be_released(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run `make train` first"):
        RELEASES[name](tmp_path, tmp_path / "nothing", tmp_path / "output", "v1")


def test_a_detector_is_released_with_its_options_and_both_kinds_of_photos(
    can: LabelledPhoto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = replace(can, path=can.path.rename(tmp_path / "metal1.png"), boxes=np.array([[0.5, 0.5, 1.0, 1.0]]))
    far = replace(near, path=tmp_path / "far.png")
    far.path.write_bytes(near.path.read_bytes())
    given: dict[str, Any] = {}
    monkeypatch.setattr(release, "kept_photos", lambda *_: {"close-up": [near], "context": [far]})
    monkeypatch.setattr(release, "compile_yolo", lambda *_, **options: given.update(options))
    (tmp_path / "best.pt").touch()
    release_yolo(tmp_path, tmp_path, tmp_path / "output", "v1", size=640, uncertain_below=0.4)

    assert given["golden"] == [near.path, far.path]
    assert (given["size"], given["uncertain_below"]) == (640, 0.4)
    samples = read_reference_photos(given["reference"])
    assert [(sample.image, sample.kind) for sample in samples] == [
        ("reference/metal1.png", "close-up"), ("reference/far.png", "context"),
    ]  # fmt: skip
    assert samples[0].objects[0].box == (0, 0, 240, 240)
