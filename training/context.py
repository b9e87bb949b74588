"""Fine-tune a detector further, on photos of waste in context: kitchens, hands, streets, grass.

Start: a checkpoint of `training.yolo`, or a released version, which is restored from its served form (`training.restore`).
Data: crops of the scenes of `litter/` that are not kept for evaluation (`training.crops`); composites of their objects and of
TrashNet's; and a sixth of TrashNet's photos, so that what the detector can do is not lost.

    python -m training.context --data DIR --start build/yolo/best.pt --output build/context

`DIR` holds `litter/`, `taco/annotations.json` (the outlines), `recyclables/` and `grounds/`. An interrupted run is resumed. The
output folder has `best.pt`, the last checkpoint (the few scenes that could choose one are worth more in training), and the
result, `calibrated.pt`: two numbers (`training.calibration`) are fitted on as many photos of either kind, the kept scenes and
TrashNet's validation photos.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from training.arguments import add_output, add_seed, claim, needed, parser
from training.calibration import calibrate
from training.composites import AT_A_DISTANCE, write_composites
from training.crops import write_crops
from training.cutouts import cut_out_all, cut_out_outlined, read_outlines
from training.detector import load, train, write_dataset
from training.photos import CLASSES, LabelledPhoto, evenly, grounds, load_photos, split_by_scene, split_photos
from training.restore import restore

log = logging.getLogger("training.context")

SIZE = 320  # pixels, in training: a crop in it is as large as in a whole photo of twice the size, in which it is served
SERVED = 512  # pixels, as it would be served
COMPOSITES = 300
EPOCHS = 5
CLOSE_UPS = 6  # every sixth of TrashNet's photos
MEASURED = 25  # every 25th photo measures the normalisations of a released version
SETTINGS: Final[dict[str, object]] = {
    "imgsz": SIZE,
    "batch": 8,
    "nbs": 8,  # a step per batch
    "lr0": 4e-4,
    "lrf": 0.02,
    "warmup_epochs": 0,
    "patience": EPOCHS,
    "freeze": 6,
    "mosaic": 0.3,
    "close_mosaic": 0,
    "hsv_h": 0.02,
    "hsv_s": 0.6,
    "hsv_v": 0.45,
    "scale": 0.4,
    "degrees": 15,
    "flipud": 0.2,
}


def restored(version: Path, photos: list[LabelledPhoto], output: Path) -> Path:
    """A checkpoint of the released version in the folder `version`, a YOLOv8s with our classes."""
    from ultralytics.nn.tasks import DetectionModel  # noqa: PLC0415 (after the settings' folder is named)

    model = load("yolov8s.yaml", output)
    model.model = DetectionModel(model.model.yaml | {"nc": len(CLASSES)}, verbose=False)
    restore(version / "model.onnx", model.model, [photo.path for photo in photos], SIZE)
    model.model.names = dict(enumerate(CLASSES))
    model.save(output / "start.pt")
    return output / "start.pt"


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "context")
    add_seed(arguments)
    arguments.add_argument("--start", type=Path, required=True, help="a checkpoint of training.yolo, or a version's folder")
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    given = arguments.parse_args()

    start = needed(given.start, "run `make train MODEL=yolo` first, or start from models/yolo")
    close_up = split_photos(load_photos(given.data / "recyclables"))
    scenes = split_by_scene(load_photos(given.data / "litter"))
    outlines = read_outlines(needed(given.data / "taco" / "annotations.json"))
    under = grounds(given.data / "grounds")["train"]
    log.info("photos: %s, in context %s", len(close_up["train"]), len(scenes["train"]))
    claim(given.output, seed=given.seed, epochs=given.epochs, composites=COMPOSITES, start=start)
    composites = given.output / "composites"
    if not (given.output / "data.yaml").is_file():
        outlined = [thing for photo in scenes["train"] for thing in cut_out_outlined(photo, outlines)]
        things = [outlined, cut_out_all(close_up["train"])]
        write_composites(things, under, composites, COMPOSITES, seed=given.seed, layout=AT_A_DISTANCE)
        write_crops(scenes["train"], given.output / "crops", given.seed)
        made = [path for folder in (composites, given.output / "crops") for path in sorted((folder / "images").glob("*.jpg"))]
        paths = made + [photo.path for photo in close_up["train"][::CLOSE_UPS]]
        write_dataset(paths, close_up["validation"], given.output)
    if start.is_dir():
        start = restored(start, (close_up["train"] + scenes["train"])[::MEASURED], given.output)
    settings = SETTINGS | {"epochs": given.epochs, "seed": given.seed}
    best = train(given.output / "data.yaml", start, given.output, settings, keep="last")
    model = load(best, given.output)
    judged = scenes["test"] + evenly(close_up["validation"], len(scenes["test"]))
    log.info("logits: times %.3f, plus %.3f", *calibrate(model.model.float(), judged, SERVED))
    model.save(given.output / "calibrated.pt")
    log.info("the calibrated checkpoint: %s", given.output / "calibrated.pt")


if __name__ == "__main__":
    main()
