"""What kind of artifact a folder holds, by its content and by the model that it is for. Nothing in it is loaded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bunriwiki.artifacts.manifest import MANIFEST
from model_sync.errors import RejectedError

DEPTH = 4  # levels of folders that are looked into: MLflow puts a model's files some levels down
STATES = (".pt", ".pth", ".safetensors")
PREFERRED = "best.pt"  # ultralytics writes it beside last.pt
CLASSIFIERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt")

ACCEPTED = {
    "yolo": "a .pt checkpoint of ultralytics, a state dict (.pt, .pth or .safetensors) with its model's YAML beside it, "
    "or an .onnx that ultralytics exported with dynamic=True",
    "kcbert": "a Hugging Face folder (config.json, model.safetensors or pytorch_model.bin, tokenizer.json or vocab.txt), "
    "or an .onnx export of one with its config.json and tokenizer",
    "sentiment": "an MLflow model folder (with MLmodel)",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A folder in the format of `bunriwiki/artifacts/` already."""

    folder: Path


@dataclass(frozen=True, slots=True)
class DetectorWeights:
    """A checkpoint of ultralytics, or a state dict of the model that the YAML `architecture` describes."""

    file: Path
    architecture: Path | None


@dataclass(frozen=True, slots=True)
class DetectorGraph:
    """An ONNX export of ultralytics."""

    file: Path


@dataclass(frozen=True, slots=True)
class ClassifierFolder:
    """A Hugging Face folder, and the folder where its tokenizer lies."""

    folder: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class ClassifierGraph:
    """An ONNX export of a Hugging Face classifier, its `config.json`, and the folder where its tokenizer lies."""

    file: Path
    config: Path
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class Pyfunc:
    """An MLflow model folder."""

    folder: Path


Artifact = Compiled | DetectorWeights | DetectorGraph | ClassifierFolder | ClassifierGraph | Pyfunc


def find_artifact(model: str, folder: Path) -> Artifact:
    """The one artifact for `model` in `folder`. Raises RejectedError when there is none, or more than one."""
    if (folder / MANIFEST).is_file():
        return Compiled(folder)
    found = FINDERS[model](folder, sorted(_files(folder, DEPTH)))
    if found is None:
        raise RejectedError(f"nothing in it is a version of {model}: that is {ACCEPTED[model]}, or a folder with {MANIFEST}")
    return found


def _find_detector(folder: Path, files: list[Path]) -> Artifact | None:
    graphs = [file for file in files if file.suffix == ".onnx"]
    weights = [file for file in files if file.suffix in STATES]
    weights = [file for file in weights if file.name == PREFERRED] or weights
    found = _only(folder, [*weights, *graphs])
    if found is None or found in graphs:
        return DetectorGraph(found) if found else None
    described = [file for file in files if file.suffix in {".yaml", ".yml"} and _describes_a_detector(file)]
    return DetectorWeights(found, _only(folder, described))


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
        raise RejectedError(f"{found.name} has no tokenizer.json or vocab.txt: without it every text would look the same")
    if found not in graphs:
        return ClassifierFolder(found.parent, tokenizer)
    config = next((configs[above] for above in found.parents if above in configs), None)
    if config is None:
        raise RejectedError(f"{found.name} has no config.json beside it: nothing says what its classes are called")
    return ClassifierGraph(found, config, tokenizer)


def _find_pyfunc(folder: Path, files: list[Path]) -> Artifact | None:
    described = [file for file in files if file.name == "MLmodel"]
    outermost = min((len(file.parents) for file in described), default=0)  # a model may hold others
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
    """The one path in `found`, or None. Raises RejectedError when there are more."""
    paths = sorted(found)
    if len(paths) > 1:
        names = ", ".join(path.relative_to(folder).as_posix() for path in paths)
        raise RejectedError(f"it holds more than one that could be meant ({names}): leave one")
    return paths[0] if paths else None


def _describes_a_detector(file: Path) -> bool:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and {"backbone", "head"} <= content.keys()
