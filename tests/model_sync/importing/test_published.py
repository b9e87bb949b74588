from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import MODELS
from model_sync.errors import RejectedError
from model_sync.importing.published import (
    Artifact,
    ClassifierFolder,
    ClassifierGraph,
    Compiled,
    DetectorGraph,
    DetectorWeights,
    Pyfunc,
    find_artifact,
)

HERE = Path()
YAML = "backbone: []\nhead: []\n"


def publish(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(YAML if name.endswith(".yaml") else "", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("model", "names", "expected"),
    [
        ("yolo", ["manifest.yaml", "model.onnx"], Compiled(HERE)),
        ("yolo", ["best.pt", "last.pt", "notes.txt"], DetectorWeights(HERE / "best.pt", None)),
        ("yolo", ["weights.pt"], DetectorWeights(HERE / "weights.pt", None)),
        ("yolo", ["a.safetensors", "a.yaml"], DetectorWeights(HERE / "a.safetensors", HERE / "a.yaml")),
        ("yolo", ["a.pth", "a.yaml"], DetectorWeights(HERE / "a.pth", HERE / "a.yaml")),
        ("yolo", ["a.onnx"], DetectorGraph(HERE / "a.onnx")),
        ("yolo", ["a.onnx", "serving.yaml"], DetectorGraph(HERE / "a.onnx", HERE / "serving.yaml")),
        ("yolo", ["MLmodel", "artifacts/best.pt"], DetectorWeights(HERE / "artifacts/best.pt", None)),
        ("kcbert", ["config.json", "model.safetensors", "vocab.txt"], ClassifierFolder(HERE, HERE)),
        ("kcbert", ["config.json", "pytorch_model.bin", "tokenizer.json", "sub/vocab.txt"], ClassifierFolder(HERE, HERE)),
        (
            "kcbert",
            ["MLmodel", "model/config.json", "model/model.safetensors", "components/tokenizer/tokenizer.json"],
            ClassifierFolder(HERE / "model", HERE / "components/tokenizer"),
        ),
        (
            "kcbert",
            ["config.json", "tokenizer.json", "onnx/model.onnx"],
            ClassifierGraph(HERE / "onnx/model.onnx", HERE / "config.json", HERE),
        ),
        ("sentiment", ["MLmodel", "artifacts/bert/MLmodel"], Pyfunc(HERE)),
        ("sentiment", ["model/MLmodel"], Pyfunc(HERE / "model")),
    ],
)
def test_the_artifact_is_found(
    model: str, names: list[str], expected: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, *names)
    monkeypatch.chdir(tmp_path)
    assert find_artifact(model, HERE) == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_folder_without_an_artifact_is_rejected_with_what_is_accepted(model: str, tmp_path: Path) -> None:
    publish(tmp_path, "README.txt", "config.json", "one/two/three/four/five/best.pt")
    with pytest.raises(RejectedError, match=f"holds no version of {model}; expected .*, or a folder with manifest.yaml"):
        find_artifact(model, tmp_path)


@pytest.mark.parametrize(
    ("model", "names", "reason"),
    [
        ("yolo", ["one.pt", "two.pt"], r"\(one.pt, two.pt\): publish one of them"),
        ("yolo", ["a/best.pt", "b/best.pt"], r"\(a/best.pt, b/best.pt\)"),
        ("yolo", ["best.pt", "best.onnx"], r"\(best.onnx, best.pt\)"),
        ("kcbert", ["config.json", "model.safetensors", "model.onnx"], r"\(model.onnx, model.safetensors\)"),
        ("kcbert", ["config.json", "model.safetensors"], "has no tokenizer"),
        ("kcbert", ["config.json", "model.safetensors", "a/vocab.txt", "b/vocab.txt"], r"\(a, b\)"),
        ("kcbert", ["model.onnx", "vocab.txt"], "has no config.json"),
        ("sentiment", ["a/MLmodel", "b/MLmodel"], r"\(a, b\)"),
    ],
)
def test_an_ambiguous_or_incomplete_artifact_is_rejected(model: str, names: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=reason):
        find_artifact(model, publish(tmp_path, *names))
