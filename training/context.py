"""Fine-tune a detector further, on photos of waste in context: kitchens, hands, streets, grass.

Start: a checkpoint of `training.yolo`, or a released version, which is restored from its served form (`training.restore`).
Data: crops of the scenes of `litter/` that are not kept for evaluation (`training.crops`), and the whole photos; photos of
objects in rooms and in hands (`training.fetch_photos`); composites of their objects and of TrashNet's, and the crops with
such objects pasted into them; and TrashNet's photos, so that what the detector can do is not lost. First in small squares,
which show an object in a crop as large as in a whole photo of twice the size; then in squares of many sizes, so that a
close-up is known in all sizes up to the served one.

    python -m training.context --data DIR --start build/yolo/best.pt --output build/context --bfloat16

`DIR` holds `litter/`, `taco/annotations.json` (the outlines), `objects/`, `recyclables/` and `grounds/`. An interrupted run is
resumed. The output folder has `best.pt`, the last checkpoint (the few scenes that could choose one are worth more in training),
and the result, `calibrated.pt`: two numbers (`training.calibration`) are fitted on as many photos of either kind, the kept
scenes and TrashNet's validation photos.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from training.arguments import add_output, add_seed, claim, needed, parser
from training.calibration import calibrate
from training.composites import AT_A_DISTANCE, write_composites, write_pasted
from training.crops import write_crops
from training.cutouts import cut_out_all, cut_out_outlined, read_outlines
from training.detector import load, train, write_dataset
from training.photos import (
    CLASSES,
    LabelledPhoto,
    grounds,
    load_photos,
    on_plain_ground,
    split_by_scene,
    split_photos,
    to_calibrate_on,
)
from training.restore import restore

log = logging.getLogger("training.context")

SERVED = 320  # pixels
COMPOSITES = 1800
# Times that a photo is shown in an epoch:
WHOLE = 2  # one of `litter/`, as a whole
CLOSE_UP = 2  # one of TrashNet's
OF_RARE = 3  # as often as others, one of TrashNet's with an object of the class RARE
ELSEWHERE = 2  # one of `objects/`
RARE = CLASSES.index("trash")
MEASURED, MEASURED_SIZE = 25, 320  # every 25th photo, in pixels, measures the normalisations of a released version
SETTINGS: Final[dict[str, object]] = {
    "batch": 16,
    "nbs": 16,  # a step per batch
    "warmup_epochs": 0.1,
    "freeze": 6,
    "close_mosaic": 0,
    "hsv_h": 0.02,
    "hsv_s": 0.6,
    "hsv_v": 0.45,
    "degrees": 15,
    "flipud": 0.2,
    "cls": 0.8,  # of the loss: more than ultralytics' 0.5, as more boxes have the wrong class than the wrong place
}
SMALL: Final[dict[str, object]] = {
    "epochs": 3,
    "patience": 3,
    "imgsz": 320,
    "lr0": 5e-4,
    "lrf": 0.6,
    "mosaic": 0.4,
    "scale": 0.5,
}
OF_MANY_SIZES: Final[dict[str, object]] = {
    "imgsz": 384,
    "multi_scale": 0.25,
    "lr0": 3e-4,
    "lrf": 0.01,
    "mosaic": 0.05,
    "scale": 0.4,
}
EPOCHS = 4  # in squares of many sizes


def restored(version: Path, photos: list[LabelledPhoto], output: Path) -> Path:
    """A checkpoint of the released version in the folder `version`, a YOLOv8s with our classes."""
    from ultralytics.nn.tasks import DetectionModel  # noqa: PLC0415 (after the settings' folder is named)

    model = load("yolov8s.yaml", output)
    model.model = DetectionModel(model.model.yaml | {"nc": len(CLASSES)}, verbose=False)
    restore(version / "model.onnx", model.model, [photo.path for photo in photos], MEASURED_SIZE)
    model.model.names = dict(enumerate(CLASSES))
    model.save(output / "start.pt")
    return output / "start.pt"


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "context")
    add_seed(arguments)
    arguments.add_argument("--start", type=Path, required=True, help="a checkpoint of training.yolo, or a version's folder")
    arguments.add_argument("--epochs", type=int, default=EPOCHS, help="in squares of many sizes (default: %(default)s)")
    arguments.add_argument(
        "--bfloat16", action="store_true", help="compute in bfloat16: more than twice as fast on a CPU with AMX, slow on others"
    )
    given = arguments.parse_args()

    start = needed(given.start, "run `make train MODEL=yolo` first, or start from models/yolo")
    close_up = split_photos(load_photos(given.data / "recyclables"))
    scenes = split_by_scene(load_photos(given.data / "litter"))
    elsewhere = load_photos(given.data / "objects")
    outlines = read_outlines(needed(given.data / "taco" / "annotations.json"))
    under = grounds(given.data / "grounds")["train"]
    log.info("photos: %s, in context %s and %s", len(close_up["train"]), len(scenes["train"]), len(elsewhere))
    claim(given.output, seed=given.seed, epochs=given.epochs, composites=COMPOSITES, start=start, bfloat16=given.bfloat16)
    dataset = given.output / "data.yaml"
    if not dataset.is_file():
        composites, crops, pasted = (given.output / name for name in ("composites", "crops", "pasted"))
        outlined = [thing for photo in scenes["train"] for thing in cut_out_outlined(photo, outlines)]
        things = [outlined + cut_out_all(on_plain_ground(elsewhere)), cut_out_all(close_up["train"])]
        write_composites(things, under, composites, COMPOSITES, seed=given.seed, layout=AT_A_DISTANCE)
        write_crops(scenes["train"], crops, given.seed)
        write_pasted(load_photos(crops), things, pasted, seed=given.seed)
        rare = [photo for photo in close_up["train"] if RARE in photo.categories]
        shown = (close_up["train"] + rare * (OF_RARE - 1)) * CLOSE_UP + scenes["train"] * WHOLE + elsewhere * ELSEWHERE
        made = [path for folder in (composites, crops, pasted) for path in sorted((folder / "images").glob("*.jpg"))]
        write_dataset([photo.path for photo in shown] + made, close_up["validation"], given.output)
    if start.is_dir():
        start = restored(start, (close_up["train"] + scenes["train"])[::MEASURED], given.output)
    settings = SETTINGS | {"epochs": given.epochs, "patience": given.epochs, "seed": given.seed}
    small = given.output / "small"
    small.mkdir(exist_ok=True)
    start = train(dataset, start, small, settings | SMALL, keep="last", bfloat16=given.bfloat16)
    best = train(dataset, start, given.output, settings | OF_MANY_SIZES, keep="last", bfloat16=given.bfloat16)
    model = load(best, given.output)
    log.info("logits: times %.3f, plus %.3f", *calibrate(model.model.float(), to_calibrate_on(given.data), SERVED))
    model.save(given.output / "calibrated.pt")
    log.info("the calibrated checkpoint: %s", given.output / "calibrated.pt")


if __name__ == "__main__":
    main()
