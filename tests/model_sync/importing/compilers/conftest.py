"""Artifacts as data scientists publish them: small, and with random weights."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before transformers and ultralytics)

# isort: split

import mlflow
import onnx
import pytest
import torch
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from transformers import BertConfig, BertForSequenceClassification
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils import ROOT as ULTRALYTICS

from bunriwiki.artifacts.reference import PHOTOS as REFERENCE_PHOTOS
from bunriwiki.artifacts.reference import ReferenceObject, ReferencePhoto, ReferenceText, write_reference
from bunriwiki.testing.paths import MODELS, PHOTOS

CLASSES = [f"class{number}" for number in range(5)]
SIZE = 160

NAMED = Schema([ColSpec("string", "review")])
PYFUNC = """
import mlflow
import pandas as pd


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None):
        texts = model_input.iloc[:, 0].tolist() if isinstance(model_input, pd.DataFrame) else list(model_input)
        {body}


mlflow.models.set_model(Model())
"""


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of libraries while a test prepares something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of the smallest YOLOv8 with five classes, and their names."""
    described = yaml.safe_load((ULTRALYTICS / "cfg/models/v8/yolov8.yaml").read_text(encoding="utf-8"))
    file = tmp_path_factory.mktemp("architecture") / "yolov8n.yaml"
    described |= {"nc": len(CLASSES), "names": CLASSES, "imgsz": SIZE}
    file.write_text(yaml.safe_dump(described), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_yolo(tiny_architecture: Path) -> Path:
    """The smallest YOLOv8, untrained, saved as ultralytics saves a trained one; it finds many objects."""
    torch.manual_seed(1)
    file = tiny_architecture.with_name("best.pt")
    with quiet():
        model = YOLO(tiny_architecture, task="detect")
        for branch in model.model.model[-1].cv3:
            torch.nn.init.normal_(branch[-1].weight, std=0.5)
            torch.nn.init.constant_(branch[-1].bias, -1.0)
        model.model.names = dict(enumerate(CLASSES))
        model.save(file)
        checkpoint, _ = tasks.torch_safe_load(file, safe_only=True)
        torch.save(checkpoint | {"train_args": {"imgsz": SIZE}}, file)
    return file


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with the tokenizer of the bundled classifier."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=30_000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, id2label={0: "none", 1: "offensive", 2: "hate"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((MODELS / "kcbert" / "tokenizer.json").read_bytes())
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference set of photos."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / REFERENCE_PHOTOS).mkdir()
    samples = []
    for photo in sorted(PHOTOS.glob("*.jpg")):
        (folder / REFERENCE_PHOTOS / photo.name).write_bytes(photo.read_bytes())
        found = ReferenceObject(label=photo.stem, box=(0, 0, 10, 10))
        samples.append(ReferencePhoto(image=f"{REFERENCE_PHOTOS}/{photo.name}", objects=(found,)))
    write_reference(folder, samples)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference set of texts."""
    folder = tmp_path_factory.mktemp("texts")
    write_reference(folder, (ReferenceText(text=text, label="none") for text in ("좋아요", "그냥 그래요 " * 5, "아 진짜", "A")))
    return folder


class MakePyfunc(Protocol):
    """Saves a pyfunc as MLflow does, and returns its folder. Its `predict` runs `body`, where `texts` is a list."""

    def __call__(self, body: str, inputs: Schema | None = NAMED) -> Path: ...


@pytest.fixture
def tiny_pyfunc(tmp_path: Path) -> MakePyfunc:
    def make(body: str, inputs: Schema | None = NAMED) -> Path:
        code = tmp_path / "model.py"
        code.write_text(PYFUNC.format(body=body), encoding="utf-8")
        with quiet():
            signature = ModelSignature(inputs=inputs) if inputs else None
            mlflow.pyfunc.save_model(tmp_path / "pyfunc", python_model=str(code), signature=signature)
        code.unlink()
        return tmp_path / "pyfunc"

    return make


@pytest.fixture(scope="session")
def exported(tiny_yolo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The detector as ultralytics exports it, with `dynamic` and without."""
    files = {}
    for dynamic in (True, False):
        folder = tmp_path_factory.mktemp("exported")
        with quiet():
            YOLO(shutil.copy(tiny_yolo, folder)).export(format="onnx", imgsz=SIZE, dynamic=dynamic, simplify=False)
        files[dynamic] = folder / "best.onnx"
    return files


class Exported(torch.nn.Module):
    """A classifier as other tools export it: with `token_type_ids`, and logits as its output."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


@pytest.fixture(scope="session")
def exported_bert(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the classifier in ONNX."""
    folder = tmp_path_factory.mktemp("exported")
    network = BertForSequenceClassification.from_pretrained(tiny_bert, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            Exported(network),
            tuple(torch.ones(2, 9, dtype=torch.int64) for _ in names),  # a shared tensor would become one input
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(free,) * 3,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    onnx.save(program.model_proto, folder / "model.onnx")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny_bert / name, folder)
    return folder
