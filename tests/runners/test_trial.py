from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.answers import Answers, Classification, Failure
from artifacts.golden import GOLDEN
from artifacts.manifest import Manifest, describe_files
from artifacts.programs import REFUSED, UNFIT
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


Told = tuple[int, list[dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, reference: Path, tmp_path: Path) -> Callable[..., Told]:
    """Runs the program; its exit code, and what it told."""
    told: list[dict[str, Any]] = []

    class Told:
        def tell(self, **what: Any) -> None:
            told.append(what)

    monkeypatch.setattr(trial, "Teller", Told)

    def run(folder: Path, *options: str, serving: Path = SERVING, reference: Path = reference) -> tuple[int, Any]:
        output = str(tmp_path / "trial.json")
        given = ["kcbert", str(folder), "--serving", str(serving), "--reference", str(reference), "--output", output]
        monkeypatch.setattr(sys, "argv", ["trial", *given, *options])
        return trial.main(), told

    return run


def test_a_version_beside_itself(run: Callable[..., Told], tmp_path: Path) -> None:
    assert run(SERVING, "--serving-too") == (0, [])
    told = Trial.model_validate_json((tmp_path / "trial.json").read_bytes())
    assert set(told.golden) == {None}
    assert len(told.golden) >= 64
    assert len(told.reference) == 60
    assert told.serving == told.reference
    assert (told.stride, len(told.single)) == (2, 30)
    assert len(told.milliseconds) > 10
    assert all(mine > 0 and theirs > 0 for mine, theirs in told.milliseconds)


def test_the_serving_version_answers_only_where_it_is_wanted(run: Callable[..., Told], tmp_path: Path) -> None:
    assert run(SERVING) == (0, [])
    assert Trial.model_validate_json((tmp_path / "trial.json").read_bytes()).serving == ()


def test_golden_samples_that_are_not_met_are_told_one_by_one(run: Callable[..., Told], tmp_path: Path) -> None:
    folder = shutil.copytree(SERVING, tmp_path / "version")
    lines = [json.loads(line) for line in (folder / GOLDEN).read_text(encoding="utf-8").splitlines()]
    names = list(lines[5]["details"])
    lines[5]["details"] = {name: 1 / len(names) for name in names}
    (folder / GOLDEN).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    assert run(folder) == (0, [])
    told = Trial.model_validate_json((tmp_path / "trial.json").read_bytes())
    assert [number for number, difference in enumerate(told.golden) if difference] == [5]


def test_a_version_that_cannot_be_loaded_is_refused(run: Callable[..., Told], tmp_path: Path) -> None:
    folder = shutil.copytree(SERVING, tmp_path / "version")
    (folder / "model.onnx").write_bytes(b"no model")
    code, [told] = run(folder)
    assert code == REFUSED
    assert "model.onnx has 8 bytes" in told["refused"]


def test_what_serves_or_a_reference_set_that_cannot_be_used_is_not_the_versions_fault(
    run: Callable[..., Told], tmp_path: Path
) -> None:
    damaged = shutil.copytree(SERVING, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"no model")
    assert run(SERVING, serving=damaged)[0] == UNFIT
    assert run(SERVING, reference=tmp_path)[0] == UNFIT
    assert all("what serves cannot be tried" in told["unfit"] for told in run(SERVING, reference=tmp_path)[1])


class Failing:
    def predict(self, batch: list[str]) -> Answers[Failure]:
        return Answers(model="fake", version="v1", results=tuple(Failure(kind="internal", message="It broke.") for _ in batch))


def test_an_input_that_fails_refuses_the_version() -> None:
    with pytest.raises(trial.RefusedError, match=r"2 of 2 inputs failed: It broke\."):
        trial._answers(Failing(), ["one", "two"], 1)


class Diverged:
    def predict(self, batch: list[str]) -> Answers[Classification]:
        answer = Classification(label="a", score=float("nan"), details={"a": float("nan")})
        return Answers(model="fake", version="v1", results=(answer,) * len(batch))


def test_a_score_that_is_no_number_refuses_the_version() -> None:
    with pytest.raises(trial.RefusedError, match="no number"):
        trial._answers(Diverged(), ["one"], 1)


def test_photos_are_tried_too(tmp_path: Path) -> None:
    shipped = MODELS / "yolo"
    folder = shutil.copytree(shipped, tmp_path / "version")
    for name in (GOLDEN, REFERENCE):
        lines = (shipped / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:5]), encoding="utf-8")
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    told = trial.try_version("yolo", folder, trial.Other.open("yolo", shipped, folder, answers=False))
    assert told.golden == (None,) * 5
    assert told.single == told.reference
