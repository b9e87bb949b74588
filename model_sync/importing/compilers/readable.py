"""Checks whether an artifact can be read, before it is published. Nothing in it is loaded, compiled or run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import yaml

from bunriwiki.artifacts.manifest import Manifest
from model_sync.errors import RejectedError
from model_sync.importing.compilers.detector_options import DetectorOptions
from model_sync.importing.published import (
    Artifact,
    ClassifierFolder,
    ClassifierGraph,
    Compiled,
    DetectorGraph,
    DetectorWeights,
    Pyfunc,
)

OLD_PICKLE = b"\x80\x02"  # the beginning of a file that torch before 1.6 saved
MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


def require_readable(model: str, artifact: Artifact) -> None:
    """Check the format of the artifact's files, which detects truncated files, for example.

    Raises RejectedError, DamagedArtifactError and OSError.
    """
    match artifact:
        case Compiled(folder):
            manifest = Manifest.read(folder)
            if manifest.model != model:
                raise RejectedError(f"it is a version of {manifest.model}, not of {model}")
            manifest.verify(folder)
        case DetectorWeights(file, _, options):
            DetectorOptions.read(options)
            _weights(file)
        case DetectorGraph(file, options):
            DetectorOptions.read(options).of_graph()
            _graph(file)
        case ClassifierFolder(folder, tokenizer):
            _json(folder / "config.json")
            _classifier(folder)
            _tokenizer(tokenizer)
        case ClassifierGraph(file, config, tokenizer):
            _json(config)
            _graph(file)
            _tokenizer(tokenizer)
        case Pyfunc(folder):
            _mlmodel(folder / "MLmodel")


def _weights(file: Path) -> None:
    if file.suffix == ".safetensors":
        _safetensors(file)
        return
    with file.open("rb") as stream:
        start = stream.read(len(OLD_PICKLE))
    if start != OLD_PICKLE and not zipfile.is_zipfile(file):
        raise RejectedError(f"{file.name} is not a checkpoint (is the file complete?)")


def _safetensors(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= min(size, MAX_HEADER) else b""
    try:
        header: Any = json.loads(text)
        ends = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RejectedError(f"{file.name} is not a safetensors file (is it complete?)") from error
    if size != 8 + length + ends:
        raise RejectedError(f"{file.name} has {size} bytes, its header says {8 + length + ends} (is the file complete?)")


def _classifier(folder: Path) -> None:
    single, index, old = (folder / name for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"))
    if single.is_file():
        _safetensors(single)
    elif index.is_file():
        shards = _json(index).get("weight_map", {})
        for name in sorted(set(shards.values())):
            if not (folder / name).is_file():
                raise RejectedError(f"{index.name} names {name}, which does not exist")
            _safetensors(folder / name)
    else:
        _weights(old)


def _graph(file: Path) -> None:
    import onnx  # noqa: PLC0415  (large, and needed here only)
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        graph = onnx.load(file, load_external_data=False).graph
    except DecodeError as error:
        raise RejectedError(f"{file.name} is not an ONNX model (is the file complete?)") from error
    if not graph.node:
        raise RejectedError(f"{file.name} contains no graph (is the file complete?)")


def _tokenizer(folder: Path) -> None:
    if (folder / "tokenizer.json").is_file():
        _json(folder / "tokenizer.json")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise RejectedError(f"{file.name} is not valid JSON (is the file complete?): {error}") from error
    if not isinstance(content, dict):
        raise RejectedError(f"{file.name} must contain a JSON object")
    return content


def _mlmodel(file: Path) -> None:
    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        raise RejectedError(f"{file.name} is not valid YAML (is the file complete?): {error}") from error
    if not isinstance(content, dict) or "python_function" not in (content.get("flavors") or {}):
        raise RejectedError(f"{file.name} has no python_function flavor: log the model as a pyfunc")
