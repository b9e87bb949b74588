"""Release the bundled fallback models: write `models/` from the results of the training scripts.

    python -m training.release --data DIR --version fallback-6 [--built build] [--only yolo]

Each folder under `models/` is replaced as a whole, except its card: manifest, served form, golden samples with the original's
answers, and the reference set. Golden and reference samples are from the data kept for evaluation.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.artifacts.reference import (
    PHOTOS,
    ReferenceObject,
    ReferencePhoto,
    ReferenceText,
    write_reference,
)
from model_sync.importing.compilers.kcbert import compile_kcbert
from model_sync.importing.compilers.sentiment import package_sentiment
from model_sync.importing.compilers.yolo import compile_yolo
from training.arguments import needed, parser
from training.comments import LABELS as HATE
from training.comments import load_comments
from training.judge_photos import corners
from training.photos import (
    CLASSES,
    LabelledPhoto,
    evenly,
    load_photos,
    other_places,
    shippable,
    split_by_scene,
    split_photos,
    to_calibrate_on,
)
from training.reviews import LABELS as SENTIMENTS
from training.reviews import load_reviews
from training.two_stage import compile_two_stages
from training.yolo import SIZE

BUNDLED = Path(__file__).parent.parent / "models"
GOLDEN = 64  # texts
REVIEWS = 600  # in the reference set
SOURCE = "YOLOv8s fine-tuned on TrashNet photos and composites of them"

UNBUILT = "run `make train` first"


class Photos(NamedTuple):
    """Numbers of photos that training never saw."""

    close_up: int
    in_kept_scenes: int
    of_bottles: int  # in other places


GOLDEN_PHOTOS = Photos(close_up=44, in_kept_scenes=12, of_bottles=8)
REFERENCE_PHOTOS = Photos(close_up=200, in_kept_scenes=60, of_bottles=40)


def kept_photos(data: Path, counts: Photos) -> dict[str, list[LabelledPhoto]]:
    """So many photos, by kind: `close-up` (MIT), and `context` (CC BY)."""
    close_up = split_photos(load_photos(data / "recyclables"))["test"]
    scenes = shippable(split_by_scene(load_photos(data / "litter"))["test"])
    bottles = other_places(data)["bottles"]
    return {
        "close-up": evenly(close_up, counts.close_up),
        "context": evenly(scenes, counts.in_kept_scenes) + evenly(bottles, counts.of_bottles),
    }


def release_yolo(
    data: Path,
    built: Path,
    output: Path,
    version: str,
    *,
    weights: Path | None = None,
    second_stage: Path | None = None,
    source: str = SOURCE,
    size: int = SIZE,
    uncertain_below: float | None = None,
) -> None:
    """Write the version of the detector in `built`, or of other `weights`, to `output`, for squares of `size` pixels.

    `second_stage` is the checkpoint of its second stage, if it has one; `uncertain_below` as for `compile_yolo`.
    """
    weights = needed(weights or built / "best.pt", UNBUILT)
    reference = built / "reference"
    _write_reference_photos(kept_photos(data, REFERENCE_PHOTOS), reference)
    compile_detector: Callable[..., object] = compile_yolo
    if second_stage:
        compile_detector = partial(
            compile_two_stages, second=needed(second_stage, "run training.materials first"), calibrated_on=to_calibrate_on(data)
        )
    compile_detector(
        weights,
        output=output,
        version=version,
        source=source,
        size=size,
        uncertain_below=uncertain_below,
        golden=[photo.path for photos in kept_photos(data, GOLDEN_PHOTOS).values() for photo in photos],
        reference=reference,
    )


def release_kcbert(data: Path, built: Path, output: Path, version: str) -> None:
    """Write the version of the hate speech classifier in `built` to `output`."""
    needed(built / "ngrams.safetensors", UNBUILT)
    test = load_comments(data)["test"]
    compile_kcbert(
        built,
        output,
        version=version,
        source="a small BERT pre-trained on NSMC and a linear model on characters, fitted on korean-hate-speech",
        golden=evenly(test["comment"].tolist(), GOLDEN),
        reference=_write_reference_texts(test["comment"], test["label"], HATE, built / "reference"),
    )


def release_sentiment(data: Path, built: Path, output: Path, version: str) -> None:
    """Write the version of the sentiment ensemble in `built` to `output`."""
    pyfunc = needed(built / "pyfunc", UNBUILT)
    test = load_reviews(data, seed=0)["test"]
    some = test.head(REVIEWS)
    package_sentiment(
        pyfunc,
        output,
        version=version,
        source="a small BERT and a linear model on characters, fitted on NSMC, soft vote",
        golden=test["review"].tail(GOLDEN).tolist(),
        reference=_write_reference_texts(some["review"], some["label"], SENTIMENTS, built / "reference"),
    )


def _write_reference_photos(kinds: Mapping[str, Sequence[LabelledPhoto]], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / PHOTOS).mkdir(parents=True)
    samples = []
    for kind, photo in ((kind, photo) for kind, photos in kinds.items() for photo in photos):
        shutil.copyfile(photo.path, folder / PHOTOS / photo.path.name)
        boxes = corners(photo).corners.round(1).tolist()
        objects = tuple(
            ReferenceObject(label=CLASSES[category], box=tuple(box))
            for category, box in zip(photo.categories, boxes, strict=True)
        )
        samples.append(ReferencePhoto(image=f"{PHOTOS}/{photo.path.name}", kind=kind, objects=objects))
    write_reference(folder, samples)


def _write_reference_texts(texts: pd.Series, labels: pd.Series, names: Sequence[str], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    samples = [ReferenceText(text=text, label=names[label]) for text, label in zip(texts, labels, strict=True)]
    write_reference(folder, samples)
    return folder


RELEASES: dict[str, Callable[[Path, Path, Path, str], None]] = {
    "yolo": release_yolo,
    "kcbert": release_kcbert,
    "sentiment": release_sentiment,
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--built", type=Path, default=Path("build"), help="folder with the output of the training scripts")
    arguments.add_argument("--version", required=True, help="the version's name, such as fallback-6")
    arguments.add_argument("--only", choices=MODELS, help="release this model only")
    arguments.add_argument("--weights", type=Path, help="yolo's checkpoint (default: that of training.yolo)")
    arguments.add_argument("--second-stage", type=Path, help="the checkpoint of yolo's second stage (training.materials)")
    arguments.add_argument("--source", default=SOURCE, help="what yolo's manifest says of it (default: %(default)s)")
    arguments.add_argument(
        "--size", type=int, default=SIZE, help="pixels of yolo's square: fewer are faster (default: %(default)s)"
    )
    arguments.add_argument(
        "--uncertain-below",
        type=float,
        help="yolo's detections with a score below this are uncertain (default: none are)",
    )
    given = arguments.parse_args()

    for name in [given.only] if given.only else MODELS:
        fresh, old = BUNDLED / f".{name}.new", BUNDLED / f".{name}.old"
        shutil.rmtree(fresh, ignore_errors=True)
        release = RELEASES[name]
        if name == "yolo":
            release = partial(
                release_yolo,
                weights=given.weights,
                second_stage=given.second_stage,
                source=given.source,
                size=given.size,
                uncertain_below=given.uncertain_below,
            )
        release(given.data, given.built / name, fresh, given.version)
        shutil.copyfile(BUNDLED / name / "README.md", fresh / "README.md")
        shutil.rmtree(old, ignore_errors=True)  # of an interrupted run
        (BUNDLED / name).rename(old)  # by renames: an interrupted run leaves the old model or the new one
        fresh.rename(BUNDLED / name)
        shutil.rmtree(old)
        print(f"{BUNDLED / name}: {given.version}. Set the version in its card, and run `make evaluate CARDS=write`.")


if __name__ == "__main__":
    main()
