from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from bunriwiki.artifacts.manifest import DamagedArtifactError
from model_sync.errors import RejectedError
from model_sync.importing.compilers.readable import require_readable
from model_sync.importing.published import (
    ClassifierFolder,
    ClassifierGraph,
    Compiled,
    DetectorGraph,
    DetectorWeights,
    Pyfunc,
)
from tests.bunriwiki.model_store.conftest import make_version

__all__ = ["make_version"]  # a fixture

TENSORS = {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}


def checkpoint(file: Path) -> Path:
    torch.save(TENSORS, file)
    return file


def old_checkpoint(file: Path) -> Path:
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    return file


def safetensors(file: Path) -> Path:
    save_file(TENSORS, file, metadata={"format": "pt"})
    return file


def graph(file: Path) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])), file)
    return file


def cut(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:-30])
    return file


def classifier(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    safetensors(folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("make", [checkpoint, old_checkpoint])
def test_a_checkpoint_is_readable(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    require_readable("yolo", DetectorWeights(make(tmp_path / "best.pt"), None))


def test_safetensors_are_readable(tmp_path: Path) -> None:
    require_readable("yolo", DetectorWeights(safetensors(tmp_path / "a.safetensors"), None))


def test_a_graph_is_readable(tmp_path: Path) -> None:
    require_readable("yolo", DetectorGraph(graph(tmp_path / "a.onnx")))


def test_a_classifier_is_readable(tmp_path: Path) -> None:
    folder = classifier(tmp_path)
    require_readable("kcbert", ClassifierFolder(folder, folder))
    require_readable("kcbert", ClassifierGraph(graph(folder / "model.onnx"), folder / "config.json", folder))


def test_all_shards_of_a_classifier_must_exist(tmp_path: Path) -> None:
    folder = classifier(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "model-1.safetensors"}}))
    require_readable("kcbert", ClassifierFolder(folder, folder))
    index.write_text(json.dumps({"weight_map": {"weight": "model-2.safetensors"}}))
    with pytest.raises(RejectedError, match=r"names model-2\.safetensors, which does not exist"):
        require_readable("kcbert", ClassifierFolder(folder, folder))


def test_a_precompiled_version_is_verified(make_version: Callable[..., Path]) -> None:
    folder = make_version("kcbert", "v1")
    require_readable("kcbert", Compiled(folder))
    with pytest.raises(RejectedError, match="a version of kcbert, not of yolo"):
        require_readable("yolo", Compiled(folder))
    (folder / "deeper" / "weights.bin").write_text("other..")
    with pytest.raises(DamagedArtifactError, match="sha256"):
        require_readable("kcbert", Compiled(folder))


def test_a_pyfunc_must_have_a_python_function_flavor(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors:\n  python_function: {loader_module: mlflow.pyfunc.model}\n")
    require_readable("sentiment", Pyfunc(tmp_path))
    for text, reason in (("flavors: {sklearn: {}}", "no python_function flavor"), ("flavors: [", "not valid YAML")):
        (tmp_path / "MLmodel").write_text(text)
        with pytest.raises(RejectedError, match=reason):
            require_readable("sentiment", Pyfunc(tmp_path))


@pytest.mark.parametrize(("name", "make"), [("best.pt", checkpoint), ("a.safetensors", safetensors)])
def test_truncated_weights_are_rejected(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    with pytest.raises(RejectedError, match=r"complete\?"):
        require_readable("yolo", DetectorWeights(cut(make(tmp_path / name)), None))


@pytest.mark.parametrize("data", [b"", b"no weights at all", b"\xff" * 200])
def test_other_bytes_are_rejected(tmp_path: Path, data: bytes) -> None:
    for name in ("best.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RejectedError, match=r"complete\?"):
            require_readable("yolo", DetectorWeights(tmp_path / name, None))
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(RejectedError, match=r"complete\?"):
        require_readable("yolo", DetectorGraph(tmp_path / "a.onnx"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_classifier_with_truncated_json_is_rejected(tmp_path: Path, name: str) -> None:
    folder = classifier(tmp_path)
    (folder / name).write_text('{"a": ')
    with pytest.raises(RejectedError, match=f"{name} is not valid JSON"):
        require_readable("kcbert", ClassifierFolder(folder, folder))
