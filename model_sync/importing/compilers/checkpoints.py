"""Loads a detector's weights without running code from the file.

A `.pt` file is a pickle, which may call any function. ultralytics has an allow-list of the classes that its checkpoints need;
nothing else is constructed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_sync.errors import RejectedError
from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before ultralytics, which needs the operators that it declares)

# isort: split

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect

from model_sync.importing.compilers.detector_facts import class_names, square_size

# Applies to every load in this process, and to every model that is built from a YAML file: ultralytics would evaluate the
# expressions in the YAML, and some of the allowed classes load further checkpoints. The environment variable
# ULTRALYTICS_SAFE_LOAD has the same effect, but is read when ultralytics is imported, which may have happened before.
tasks.SAFE_LOAD = True

STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict")  # under which trainers store a state dict


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    """A network in single precision, ready for inference; its first output is [batch, 4 + classes, anchors].

    `names` are the classes in order; `size` is the side of the input square in pixels.
    """

    network: torch.nn.Module
    names: list[str]
    size: int


def load_detector(weights: Path, architecture: Path | None = None) -> LoadedDetector:
    """Load a checkpoint of ultralytics, or a state dict of the model that the YAML file `architecture` describes.

    Raises RejectedError if the file is neither, references anything that a checkpoint does not need, or holds no detector.
    """
    content = _read(weights)
    network = content.get("ema") or content.get("model")
    if isinstance(network, torch.nn.Module):
        trained = content.get("train_args")
        size = trained.get("imgsz") if isinstance(trained, Mapping) else None
        names = getattr(network, "names", None)
    else:
        network, names, size = _build(weights, content, architecture)
    network = network.float().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None  # torch before 1.11 did not save the attribute
    head = _head(weights, network)
    return LoadedDetector(network, class_names(names, head.nc), square_size(size))


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise RejectedError(f"{file.name} is not a checkpoint (is the file complete?): {error}") from error
    try:
        torch.serialization.get_unsafe_globals_in_checkpoint(file)  # constructs nothing
    except Exception as error:  # many types, on untrusted bytes
        raise RejectedError(f"{file.name} is not a checkpoint (is the file complete?)") from error
    try:
        if file.suffix == ".pt":
            content, _ = tasks.torch_safe_load(file, safe_only=True)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the same
        forbidden = torch.serialization.get_unsafe_globals_in_checkpoint(file)  # without what ultralytics has allowed by now
        if forbidden:
            raise RejectedError(
                f"{file.name} references {', '.join(sorted(forbidden))}, which no checkpoint needs: it is not loaded"
            ) from error
        raise RejectedError(f"{file.name} cannot be loaded as a checkpoint: {error}") from error
    if not isinstance(content, Mapping):
        raise RejectedError(f"{file.name} holds a {type(content).__name__}, not a checkpoint or a state dict")
    return content


def _build(weights: Path, content: Mapping[str, Any], architecture: Path | None) -> tuple[torch.nn.Module, Any, Any]:
    """The network of a state dict, and the names and size in the YAML file."""
    state = next((content[name] for name in STATE_DICT_KEYS if isinstance(content.get(name), Mapping)), content)
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise RejectedError(f"{weights.name} holds neither a network of ultralytics nor a state dict")
    if architecture is None:
        raise RejectedError(f"{weights.name} is a state dict: publish its model's YAML (backbone, head, names) with it")
    described = yaml.safe_load(architecture.read_text(encoding="utf-8"))
    names = described.get("names")
    if not names:
        raise RejectedError(f"{architecture.name} does not name the classes: add names")
    described = {"nc": len(names), "scale": tasks.guess_model_scale(architecture)} | described
    # Trainers save the network, or the YOLO object that contains it.
    state = {name.removeprefix("model.") if name.startswith("model.model.") else name: tensor for name, tensor in state.items()}
    try:
        network = tasks.DetectionModel(described, verbose=False)
        network.load_state_dict(state)
    except Exception as error:  # any type: the description is untrusted
        raise RejectedError(f"{weights.name} does not fit {architecture.name}: {error}") from error
    return network, names, described.get("imgsz")


def _head(weights: Path, network: torch.nn.Module) -> Any:
    if type(network) is not tasks.DetectionModel or tasks.guess_model_task(network) != "detect":
        raise RejectedError(f"{weights.name} holds a {type(network).__name__}, which is not a YOLO detector")
    head = network.model[-1]
    if not isinstance(head, Detect):
        raise RejectedError(f"{weights.name} ends in {type(head).__name__}, which is not the head of a YOLO detector")
    head.end2end = False  # output the boxes before non-maximum suppression, which our graph does
    if head.cv2 is None:
        raise RejectedError(f"{weights.name} was fused for end-to-end inference: publish the checkpoint as it was trained")
    return head
