"""Untrained models in the formats of their trainers: they compile, and answer at random."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.testing.paths import MODELS


def untrained_detector(file: Path, size: int = 640) -> Path:
    """A YOLOv8n for squares of `size` pixels with the bundled model's classes, as ultralytics saves it."""
    # First: torchvision cannot be imported without.
    import model_sync.importing.compilers.torchvision_ops  # noqa: F401, PLC0415, I001
    from ultralytics import YOLO  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = YOLO("yolov8n.yaml", task="detect")
        names = [label.name for label in Manifest.read(MODELS / "yolo").labels]
        detector.model = type(detector.model)("yolov8n.yaml", nc=len(names), verbose=False)
        detector.model.names = dict(enumerate(names))
        detector.model.args = {"imgsz": size}
        file.parent.mkdir(parents=True, exist_ok=True)
        detector.save(file)
    return file


def untrained_classifier(folder: Path, *, tokenizer: bool = True) -> Path:
    """A small BERT with kcbert's classes and random weights, as a Hugging Face folder."""
    import model_sync.importing.compilers.torchvision_ops  # noqa: F401, PLC0415, I001
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

    labels = [label.name for label in Manifest.read(MODELS / "kcbert").labels]
    vocabulary = Manifest.read(MODELS / "kcbert").input.vocabulary  # type: ignore[union-attr]
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=128, id2label=dict(enumerate(labels)),
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    if tokenizer:
        shutil.copyfile(MODELS / "kcbert" / "tokenizer.json", folder / "tokenizer.json")
    return folder
