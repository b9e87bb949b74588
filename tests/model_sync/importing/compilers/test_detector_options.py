from __future__ import annotations

from pathlib import Path

import pytest

from model_sync.errors import RejectedError
from model_sync.importing.compilers.detector_options import DetectorOptions


def options(folder: Path, text: str) -> DetectorOptions:
    file = folder / "serving.yaml"
    file.write_text(text, encoding="utf-8")
    return DetectorOptions.read(file)


def test_options_are_optional(tmp_path: Path) -> None:
    assert DetectorOptions.read(None) == DetectorOptions(size=None, uncertain_below=None)
    assert options(tmp_path, "{}") == DetectorOptions()


def test_options_are_read(tmp_path: Path) -> None:
    found = options(tmp_path, "size: 640\nuncertain_below: 0.5\n")
    assert found == DetectorOptions(size=640, uncertain_below=0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("size: 100", "size: Input should be a multiple of 32"),
        ("uncertain_below: 0", "uncertain_below: "),
        ("confidence: 0.3", "confidence: Extra inputs are not permitted"),
        ("[1]", "wrong options"),
        ("{", "not valid YAML"),
        ("# " + "x" * 20_000, "not valid YAML"),
    ],
)
def test_wrong_options_are_rejected(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=reason):
        options(tmp_path, text)


def test_a_graph_has_its_size_already(tmp_path: Path) -> None:
    kept = options(tmp_path, "uncertain_below: 0.5")
    assert kept.of_graph() == kept
    with pytest.raises(RejectedError, match="publish the weights"):
        options(tmp_path, "size: 640").of_graph()
