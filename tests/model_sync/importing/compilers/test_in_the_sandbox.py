"""Every kind of artifact compiles in the sandbox, where there are no sockets, no processes and no `chmod`."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.testing.paths import MODELS
from model_sync.importing.compilers.checkpoints import load_detector
from model_sync.sandbox.run import MB, Limits, run_sandboxed

pytestmark = pytest.mark.slow

LIMITS = Limits(4096 * MB, 600, 1)


def checkpoint(folder: Path, given: pytest.FixtureRequest) -> None:
    shutil.copy(given.getfixturevalue("tiny_yolo"), folder)


def state_dict(folder: Path, given: pytest.FixtureRequest) -> None:
    weights: dict[str, torch.Tensor] = load_detector(given.getfixturevalue("tiny_yolo")).network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")
    shutil.copy(given.getfixturevalue("tiny_architecture"), folder)


def detector_in_onnx(folder: Path, given: pytest.FixtureRequest) -> None:
    shutil.copy(given.getfixturevalue("exported")[True], folder)


def classifier(folder: Path, given: pytest.FixtureRequest) -> None:
    shutil.copytree(given.getfixturevalue("tiny_bert"), folder, dirs_exist_ok=True)


def classifier_with_a_pickle(folder: Path, given: pytest.FixtureRequest) -> None:
    classifier(folder, given)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    words = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def classifier_in_onnx(folder: Path, given: pytest.FixtureRequest) -> None:
    shutil.copytree(given.getfixturevalue("exported_bert"), folder, dirs_exist_ok=True)


def pyfunc(folder: Path, given: pytest.FixtureRequest) -> None:
    made = given.getfixturevalue("tiny_pyfunc")("return [{'bad': 0.25, 'good': 0.75} for _ in texts]")
    shutil.copytree(made, folder, dirs_exist_ok=True)


def compiled(folder: Path, given: pytest.FixtureRequest) -> None:
    shutil.copytree(MODELS / "kcbert", folder, dirs_exist_ok=True)


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # ultralytics' anchors
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")  # torch's own use of itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporters' libraries
@pytest.mark.parametrize(
    ("model", "publish"),
    [
        ("yolo", checkpoint),
        ("yolo", state_dict),
        ("yolo", detector_in_onnx),
        ("kcbert", classifier),
        ("kcbert", classifier_with_a_pickle),
        ("kcbert", classifier_in_onnx),
        ("kcbert", compiled),
        ("sentiment", pyfunc),
    ],
)
def test_an_artifact_compiles_in_the_sandbox(
    model: str, publish: Callable[[Path, pytest.FixtureRequest], None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    published, output = tmp_path / "published", tmp_path / "output"
    published.mkdir()
    output.mkdir()
    publish(published, request)
    reference: Path = request.getfixturevalue("photos" if model == "yolo" else "texts")
    job: list[Any] = [sys.executable, "-m", "model_sync.importing.compilers.job", model, published, output / "version"]
    messages = run_sandboxed(
        [*job, "--version", "v1", "--source", "a test", "--reference", reference],
        writable=output,
        readable=[published, reference],
        limits=LIMITS,
        stopping=threading.Event(),
    )
    assert messages[-1] == {"done": True}
    Manifest.read(output / "version").verify(output / "version")
