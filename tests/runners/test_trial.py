from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from artifacts.answers import Answers, Failure
from artifacts.golden import GOLDEN
from artifacts.manifest import Manifest, describe_files
from artifacts.reference import REFERENCE
from artifacts.trial import Trial
from runners import trial
from tests.conftest import MODELS

SERVING = MODELS / "kcbert"


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """The first lines of the reference set."""
    lines = (SERVING / REFERENCE).read_text(encoding="utf-8").splitlines(keepends=True)
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / REFERENCE).write_text("".join(lines[:60]), encoding="utf-8")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, reference: Path, output: Path, *options: str) -> None:
    given = ["kcbert", str(folder), "--serving", str(SERVING), "--reference", str(reference), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["trial", *given, *options])
    trial.main()


def test_a_version_beside_itself(monkeypatch: pytest.MonkeyPatch, reference: Path, tmp_path: Path) -> None:
    run(monkeypatch, SERVING, reference, tmp_path / "trial.json", "--serving-too")
    told = Trial.model_validate_json((tmp_path / "trial.json").read_bytes())
    assert set(told.golden) == {None}
    assert len(told.golden) >= 64
    assert len(told.reference) == 60
    assert told.serving == told.reference
    assert (told.stride, len(told.single)) == (2, 30)
    assert all(milliseconds > 0 for milliseconds in told.milliseconds)


def test_the_serving_version_answers_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, reference: Path, tmp_path: Path
) -> None:
    run(monkeypatch, SERVING, reference, tmp_path / "trial.json")
    assert Trial.model_validate_json((tmp_path / "trial.json").read_bytes()).serving == ()


def test_golden_samples_that_are_not_met_are_told_one_by_one(
    monkeypatch: pytest.MonkeyPatch, reference: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(SERVING, tmp_path / "version")
    lines = [json.loads(line) for line in (folder / GOLDEN).read_text(encoding="utf-8").splitlines()]
    names = list(lines[5]["details"])
    lines[5]["details"] = {name: 1 / len(names) for name in names}
    (folder / GOLDEN).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    run(monkeypatch, folder, reference, tmp_path / "trial.json")
    told = Trial.model_validate_json((tmp_path / "trial.json").read_bytes())
    assert [number for number, difference in enumerate(told.golden) if difference] == [5]


def test_a_version_that_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch, reference: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(SERVING, tmp_path / "version")
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, folder, reference, tmp_path / "trial.json")
    assert ended.value.code == trial.REFUSED
    assert "model.onnx has 8 bytes" in json.loads((tmp_path / "trial.json").read_text())["refused"]


class Failing:
    def predict(self, batch: list[str]) -> Answers[Failure]:
        return Answers(model="fake", version="v1", results=tuple(Failure(kind="internal", message="It broke.") for _ in batch))


def test_an_input_that_fails_refuses_the_version() -> None:
    with pytest.raises(trial.RefusedError, match=r"2 of 2 inputs failed: It broke\."):
        trial._answers(Failing(), ["one", "two"], 1)


def test_photos_are_tried_too(tmp_path: Path) -> None:
    shipped = MODELS / "yolo"
    folder = shutil.copytree(shipped, tmp_path / "version")
    for name in (GOLDEN, REFERENCE):
        lines = (shipped / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:5]), encoding="utf-8")
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    told = trial.try_version("yolo", folder, shipped, folder, serving_too=False)
    assert told.golden == (None,) * 5
    assert told.single == told.reference
