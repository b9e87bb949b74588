"""What data scientists publish, good and bad: made of the shipped models, and of untrained ones."""

from __future__ import annotations

import io
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.artifacts.reference import PHOTOS, REFERENCE
from tests.conftest import MODELS as SHIPPED
from tests.versions import make_version


def compiled(model: str, folder: Path, version: str = "v1", *, turn: int = 0) -> Path:
    """The shipped version in the format of `bunriwiki/artifacts/`, without its reference set; `turn` permutes the names of its
    classes.

    Another `version` is another digest, as the manifest has it.
    """
    make_version(model, version, turn, folder)
    (folder / REFERENCE).unlink()
    shutil.rmtree(folder / PHOTOS, ignore_errors=True)
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    return folder


def untrained_detector(file: Path, size: int = 640) -> Path:
    """A YOLOv8n for squares of `size` pixels with the shipped classes, as ultralytics saves it; it finds nothing right."""
    # First: torchvision cannot be imported without.
    import model_sync.importing.compilers.torchvision_ops  # noqa: F401, PLC0415, I001
    from ultralytics import YOLO  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = YOLO("yolov8n.yaml", task="detect")
        names = [label.name for label in Manifest.read(SHIPPED / "yolo").labels]
        detector.model = type(detector.model)("yolov8n.yaml", nc=len(names), verbose=False)
        detector.model.names = dict(enumerate(names))
        detector.model.args = {"imgsz": size}
        file.parent.mkdir(parents=True, exist_ok=True)
        detector.save(file)
    return file


def untrained_classifier(folder: Path, *, tokenizer: bool = True) -> Path:
    """A small BERT with the shipped classes as a Hugging Face folder, with random weights."""
    import model_sync.importing.compilers.torchvision_ops  # noqa: F401, PLC0415, I001
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

    labels = [label.name for label in Manifest.read(SHIPPED / "kcbert").labels]
    vocabulary = Manifest.read(SHIPPED / "kcbert").input.vocabulary  # type: ignore[union-attr]
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=128, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    if tokenizer:
        shutil.copyfile(SHIPPED / "kcbert" / "tokenizer.json", folder / "tokenizer.json")
    return folder


class _WritesAFile:
    """Pickled, it is a call: whoever unpickles it runs it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self._path)!r}, 'w').write('harm')",)


def hostile_checkpoint(harm: Path) -> bytes:
    """A `.pt` as torch saves it, that writes the file `harm` when it is unpickled."""
    import torch  # noqa: PLC0415

    stream = io.BytesIO()
    torch.save({"model": _WritesAFile(harm)}, stream, pickle_module=pickle)
    return stream.getvalue()


def pyfunc(folder: Path, *, predict: str = "", requirements: tuple[str, ...] = (), note: str = "") -> Path:
    """The shipped sentiment model as an MLflow model folder; `predict` is a line of code that it runs at each prediction.

    `note` is a comment in its code: another one makes another model.
    """
    shutil.copytree(SHIPPED / "sentiment" / "pyfunc", folder)
    code = folder / "sentiment_model.py"
    text = code.read_text(encoding="utf-8") + f"\n# {note}\n"
    if predict:
        head = text.index("def predict(")
        body = text.index(":\n", text.index(")", head)) + 2
        text = text[:body] + f"        {predict}\n" + text[body:]
    code.write_text(text, encoding="utf-8")
    with (folder / "requirements.txt").open("a", encoding="utf-8") as stream:
        stream.writelines(f"\n{requirement}" for requirement in requirements)
    return folder
