"""Training a detector with ultralytics: what `training.yolo` and `training.context` share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils._pytree import tree_map_only

from training.history import record_detector
from training.photos import CLASSES, LabelledPhoto

log = logging.getLogger("training.detector")


def train(
    dataset: Path,
    weights: Path,
    output: Path,
    settings: Mapping[str, object],
    *,
    keep: str = "best",
    bfloat16: bool = False,
) -> Path:
    """Train from `weights` with ultralytics' `settings`, or resume the run in `output`; returns `best.pt` in `output`.

    `keep` names the checkpoint that becomes it: the `best` on the validation data, or the `last`. If `best.pt` exists already,
    nothing is trained. With `bfloat16`, the network computes in it while it trains; weights and loss stay in single precision.
    """
    best = output / "best.pt"
    if best.is_file():
        log.info("%s exists already", best)
        return best
    checkpoint = output / "run" / "weights"
    started = (checkpoint / "last.pt").is_file()
    model = load(checkpoint / "last.pt" if started else weights, output)
    options = {
        "data": str(dataset),
        "project": str(output.resolve()),
        "name": "run",
        "exist_ok": True,
        "deterministic": True,
        "device": "cpu",
        "workers": 0,
        "amp": False,
        "plots": False,
        "optimizer": "AdamW",
        "cos_lr": True,
        **settings,
    }
    threads = torch.get_num_threads()  # ultralytics sets one less than there are cores, and leaves it so: one of two
    model.add_callback("on_pretrain_routine_start", lambda _: torch.set_num_threads(threads))
    with in_bfloat16() if bfloat16 else nullcontext():
        model.train(**({"resume": True} if started else options))
    torch.set_num_threads(threads)
    shutil.copyfile(checkpoint / f"{keep}.pt", output / "best.tmp")
    return (output / "best.tmp").rename(best)


@contextmanager
def in_bfloat16() -> Iterator[None]:
    """Networks that train compute in bfloat16 meanwhile: ultralytics itself does that on a GPU only."""
    from ultralytics.nn.tasks import BaseModel  # noqa: PLC0415 (after the settings' folder is named, in `load`)

    exact = BaseModel._predict_once

    def predict(network: Any, images: Any, *arguments: Any, **options: Any) -> Any:
        if not network.training:
            return exact(network, images, *arguments, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = exact(network, images.contiguous(memory_format=torch.channels_last), *arguments, **options)
        return tree_map_only(torch.Tensor, torch.Tensor.float, found)

    BaseModel._predict_once = predict
    try:
        yield
    finally:
        BaseModel._predict_once = exact


def load(weights: Path | str, output: Path) -> Any:
    """The checkpoint in ultralytics, which keeps its settings in `output`, sends no telemetry, and needs no torchvision."""
    os.environ["YOLO_CONFIG_DIR"] = str(output.resolve())  # read when it is imported
    import torchvision  # noqa: PLC0415
    from ultralytics import YOLO, settings  # noqa: PLC0415
    from ultralytics.utils.nms import TorchNMS  # noqa: PLC0415

    torchvision.ops.nms = TorchNMS.nms  # torchvision's own operator is missing beside torch's CPU build
    settings.update(tensorboard=False, mlflow=False, sync=False)
    model = YOLO(weights, task="detect")
    record_detector(model, output)
    return model


def write_dataset(training: Sequence[Path], validation: Sequence[LabelledPhoto], output: Path) -> Path:
    """Describe the data as ultralytics reads it: `data.yaml` with a list of photos per split beside it."""
    for name, paths in {"train": training, "val": [photo.path for photo in validation]}.items():
        (output / f"{name}.txt").write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
    described = {"path": str(output.resolve()), "train": "train.txt", "val": "val.txt", "names": dict(enumerate(CLASSES))}
    (output / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return output / "data.yaml"
