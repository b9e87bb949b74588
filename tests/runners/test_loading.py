from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bunriwiki.artifacts.answers import Classification, Failure
from bunriwiki.artifacts.golden import GoldenText
from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.testing.paths import MODELS
from runners.loading import compare_to_golden, isolating, read_verified


def test_one_bad_input_does_not_fail_its_neighbours() -> None:
    batches: list[list[int]] = []

    def batch(inputs: Sequence[int]) -> list[int]:
        batches.append(list(inputs))
        return [100 // number for number in inputs]

    assert isolating(batch, [1, 2, 4]) == [100, 50, 25]
    assert len(batches) == 1
    first, bad, last = isolating(batch, [1, 0, 4])
    assert (first, last) == (100, 25)
    assert isinstance(bad, Failure)
    assert bad.kind == "internal"


def test_no_inputs_no_answers() -> None:
    assert isolating(lambda inputs: [0 for _ in inputs], []) == []


def test_a_model_that_answers_wrongly_is_rejected(tmp_path: Path) -> None:
    sample = GoldenText(text="가", details={"a": 0.5, "b": 0.5})
    right = Classification(label="a", score=0.5, details={"a": 0.5, "b": 0.5})
    wrong = Classification(label="a", score=1, details={"a": 1, "b": 0})
    compare_to_golden(tmp_path, sample, right)
    with pytest.raises(DamagedArtifactError, match=r"a 1\.0000 instead of 0\.5000"):
        compare_to_golden(tmp_path, sample, wrong)
    with pytest.raises(DamagedArtifactError, match="no answer"):
        compare_to_golden(tmp_path, sample, Failure(kind="internal", message="no answer"))


def test_another_models_version_is_rejected() -> None:
    with pytest.raises(DamagedArtifactError, match="a version of kcbert, not of yolo"):
        read_verified(MODELS / "kcbert", "yolo")


def test_a_damaged_version_is_rejected(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "kcbert", tmp_path / "kcbert")
    with (folder / "model.onnx").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\x00\x01\x02\x03")
    with pytest.raises(DamagedArtifactError, match="sha256"):
        read_verified(folder, "kcbert")
