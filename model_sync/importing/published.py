"""Recognizes the kind of artifact in a published folder, by its content and its model. Nothing in it is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bunriwiki.artifacts.manifest import MANIFEST
from model_sync.errors import RejectedError
from model_sync.importing.compilers.detector_options import OPTIONS

MAX_DEPTH = 4  # levels of folders that are searched: MLflow stores a model's files some levels down
WEIGHTS = (".pt", ".pth", ".safetensors")
PREFERRED = "best.pt"  # ultralytics writes best.pt and last.pt
CLASSIFIERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt")

ACCEPTED = {
    "yolo": "a .pt checkpoint of ultralytics, a state dict (.pt, .pth or .safetensors) with its model's YAML, "
    "or an .onnx that ultralytics exported with dynamic=True",
    "kcbert": "a Hugging Face folder (config.json, model.safetensors or pytorch_model.bin, tokenizer.json or vocab.txt), "
    "or an .onnx export of one with its config.json and tokenizer",
    "sentiment": "an MLflow model folder (with MLmodel)",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A precompiled version: a folder in the format of `bunriwiki/artifacts/`."""

    folder: Path


@dataclass(frozen=True, slots=True)
class DetectorWeights:
    """A checkpoint of ultralytics, or a state dict of the model that the YAML file `architecture` describes.

    `options` is the file with its options (`detector_options.py`).
    """

    file: Path
    architecture: Path | None
    options: Path | None = None


@dataclass(frozen=True, slots=True)
class DetectorGraph:
    """An ONNX export of ultralytics, and the file with its options."""

    file: Path
    options: Path | None = None


@dataclass(frozen=True, slots=True)
class ClassifierFolder:
    """A Hugging Face folder, and the folder with its tokenizer."""

    folder: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class ClassifierGraph:
    """An ONNX export of a Hugging Face classifier, its `config.json`, and the folder with its tokenizer."""

    file: Path
    config: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class Pyfunc:
    """An MLflow model folder."""

    folder: Path


Artifact = Compiled | DetectorWeights | DetectorGraph | ClassifierFolder | ClassifierGraph | Pyfunc


def find_artifact(model: str, folder: Path) -> Artifact:
    """The artifact for `model` in `folder`. Raises RejectedError if there is none, or more than one."""
    if (folder / MANIFEST).is_file():
        return Compiled(folder)
    found = FINDERS[model](folder, sorted(_files(folder, MAX_DEPTH)))
    if found is None:
        raise RejectedError(f"the folder holds no version of {model}; expected {ACCEPTED[model]}, or a folder with {MANIFEST}")
    return found


def _find_detector(folder: Path, files: list[Path]) -> Artifact | None:
    graphs = [file for file in files if file.suffix == ".onnx"]
    weights = [file for file in files if file.suffix in WEIGHTS]
    weights = [file for file in weights if file.name == PREFERRED] or weights
    found = _only(folder, [*weights, *graphs])
    options = _only(folder, [file for file in files if file.name == OPTIONS])
    if found is None or found in graphs:
        return DetectorGraph(found, options) if found else None
    described = [file for file in files if file.suffix in {".yaml", ".yml"} and _describes_a_detector(file)]
    return DetectorWeights(found, _only(folder, described), options)


def _find_classifier(folder: Path, files: list[Path]) -> Artifact | None:
    configs = {file.parent: file for file in files if file.name == "config.json"}
    folders = {file.parent: file for file in files if file.name in CLASSIFIERS and file.parent in configs}
    graphs = [file for file in files if file.suffix == ".onnx"]
    found = _only(folder, [*folders.values(), *graphs])
    if found is None:
        return None
    tokenizers = {file.parent for file in files if file.name in TOKENIZERS}
    tokenizer = found.parent if found.parent in tokenizers else _only(folder, tokenizers)
    if tokenizer is None:
        raise RejectedError(f"{found.name} has no tokenizer: publish its tokenizer.json or vocab.txt with it")
    if found not in graphs:
        return ClassifierFolder(found.parent, tokenizer)
    config = next((configs[parent] for parent in found.parents if parent in configs), None)
    if config is None:
        raise RejectedError(f"{found.name} has no config.json, which names its classes: publish it with it")
    return ClassifierGraph(found, config, tokenizer)


def _find_pyfunc(folder: Path, files: list[Path]) -> Artifact | None:
    described = [file for file in files if file.name == "MLmodel"]
    outermost = min((len(file.parents) for file in described), default=0)  # a model may contain other models
    found = _only(folder, (file.parent for file in described if len(file.parents) == outermost))
    return Pyfunc(found) if found else None


FINDERS: dict[str, Callable[[Path, list[Path]], Artifact | None]] = {
    "yolo": _find_detector,
    "kcbert": _find_classifier,
    "sentiment": _find_pyfunc,
}


def _files(folder: Path, depth: int) -> Iterable[Path]:
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif depth and path.is_dir() and not path.is_symlink():
            yield from _files(path, depth - 1)


def _only(folder: Path, found: Iterable[Path]) -> Path | None:
    """The only path in `found`, or None. Raises RejectedError if there are more."""
    paths = sorted(found)
    if len(paths) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in paths)
        raise RejectedError(f"the folder holds more than one candidate ({names}): publish one of them")
    return paths[0] if paths else None


def _describes_a_detector(file: Path) -> bool:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and {"backbone", "head"} <= content.keys()
