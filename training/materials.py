"""Fit the detector's second stage: a classifier that looks at each box from near and says what is in it.

EfficientNet-Lite2 as it was trained on ImageNet (`training.efficientnet`), with logistic regression on its features in place of
its last layer. Data: the objects of the scenes of `litter/` that are not kept for evaluation, of TrashNet, and of `objects/`;
and parts of photos in which no object is, as a class of their own. Each is a square around a box, turned, moved, and in other
light. So are the boxes that the first stage finds in photos that are no close-ups (`training.candidates`): they are what the
second stage will be asked about, and what it has to turn down.

    python -m training.materials --data DIR --detector build/context/calibrated.pt --output build/materials

It takes some 20 minutes on two cores. The output folder has `best.pt`, the network's weights.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm
from ultralytics.utils.ops import xywh2xyxy, xyxy2xywh

from bunriwiki.artifacts.image import decode
from model_sync.importing.compilers.checkpoints import load_detector
from training.arguments import add_output, add_seed, needed, parser
from training.candidates import candidates
from training.efficientnet import SIZE, EfficientNet, export
from training.metrics import Floats, overlaps
from training.photos import CLASSES, LabelledPhoto, grounds, load_photos, split_by_scene, split_photos

log = logging.getLogger("training.materials")

NOTHING = len(CLASSES)  # the class of a crop without an object
DRAWN, BATCH = 60_000, 16  # crops
REGULARISATION = 4 / DRAWN  # the inverse of its strength; weaker, the classifier learns its photos by heart
ITERATIONS = 300  # of the solver at most
MARGIN = 1.2  # the side of a square, in longer sides of its box
MARGINS = (1.0, 1.5)  # of the squares that it is fitted on
MOVED, TURNED = 0.15, 20  # by at most this share of the box, and by these degrees
QUARTERS = (0.7, 0.1, 0.1, 0.1)  # of waste on the ground, how likely it is turned by so many quarters
EMPTY_SIDES = (0.1, 0.7)  # of a square without an object, in shorter sides of the photo
EMPTY_PER_PHOTO, TRIES = 4, 20
TOUCHED = 0.1  # share of an object, and overlap with it: a square with less is without it
SAMPLES = 2  # of the photo for a pixel of a crop, along each side
GREY = 114
# Shares of the crops that are drawn:
SOURCES = {"litter": 0.36, "close-up": 0.2, "elsewhere": 0.12, "empty": 0.12, "candidate": 0.2}
SQUARE = 640  # pixels of the photo in which the first stage finds candidates
ON_OBJECT, BESIDE = 0.5, 0.3  # overlaps from which a candidate shows an object, and below which it shows none

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Thing:
    """What is at a place in a photo: `box` is x, y of the centre, width, height in pixels; `source` is a set of photos."""

    photo: Pixels
    box: Floats
    category: int
    source: str


def read(path: Path) -> Pixels:
    """A photo [height, width, 3], RGB."""
    photo = cv2.imread(str(path))
    if photo is None:
        raise ValueError(f"{path} cannot be read")
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB).astype(np.uint8)


def objects(labelled: LabelledPhoto, photo: Pixels, source: str) -> list[Thing]:
    """The labelled objects of a photo."""
    boxes = labelled.boxes * np.tile(photo.shape[1::-1], 2)
    return [Thing(photo, box, category, source) for box, category in zip(boxes, labelled.categories, strict=True)]


def empty(photo: Pixels, taken: Sequence[Thing], rng: np.random.Generator) -> list[Thing]:
    """At most EMPTY_PER_PHOTO squares of `photo` that touch none of the things in it."""
    size = np.array(photo.shape[1::-1])
    around = xywh2xyxy(np.array([thing.box for thing in taken]).reshape(-1, 4))
    areas = (around[:, 2:] - around[:, :2]).prod(axis=1).clip(1)
    found: list[Thing] = []
    for _ in range(TRIES):
        side = rng.uniform(*EMPTY_SIDES) * size.min()
        square = np.array([*rng.uniform(side / 2, size - side / 2), side, side])
        inside = xywh2xyxy(square[None])
        common = (np.minimum(inside[:, 2:], around[:, 2:]) - np.maximum(inside[:, :2], around[:, :2])).clip(0).prod(axis=1)
        touched = max((common / areas).max(initial=0), overlaps(inside, around).max(initial=0))
        if touched < TOUCHED and len(found) < EMPTY_PER_PHOTO:
            found.append(Thing(photo, square, NOTHING, "empty"))
    return found


def proposed(photo: Path, pixels: Pixels, taken: Sequence[Thing], detector: torch.nn.Module) -> list[Thing]:
    """The candidates of `detector` in a photo whose objects are `taken`: what they show is the object there, or nothing."""
    square, frame = decode(photo.read_bytes(), SQUARE)
    with torch.inference_mode():
        boxes, _ = candidates(detector, torch.from_numpy(square[None]))
    corners = frame.to_pixels(xywh2xyxy(boxes).numpy()).astype(np.float64)
    common = overlaps(corners, xywh2xyxy(np.array([thing.box for thing in taken]).reshape(-1, 4)))
    found = []
    for box, with_each in zip(xyxy2xywh(corners), common, strict=True):
        best = with_each.max(initial=0)
        if best < BESIDE or best >= ON_OBJECT:
            category = NOTHING if best < BESIDE else taken[with_each.argmax()].category
            found.append(Thing(pixels, box, category, "candidate"))
    return found


def crop(photo: Pixels, centre: Floats, side: float, degrees: float = 0.0, *, mirrored: bool = False) -> Pixels:
    """The square around `centre` with sides of `side` pixels of the photo, as [SIZE, SIZE, 3]; what is outside is grey."""
    wide = SIZE * SAMPLES
    turned = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, wide / side)
    turned[:, 2] += wide / 2 - centre
    if mirrored:
        turned[0] = [-turned[0, 0], -turned[0, 1], wide - turned[0, 2]]
    samples = cv2.warpAffine(photo, turned, (wide, wide), borderValue=(GREY, GREY, GREY))
    return cv2.resize(samples, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def varied(thing: Thing, rng: np.random.Generator) -> Floats:
    """A crop of `thing`, float [SIZE, SIZE, 3] in 0..1, moved, turned, and in other light."""
    longer = thing.box[2:].max()
    centre = thing.box[:2] + rng.uniform(-MOVED, MOVED, 2) * thing.box[2:]
    side = max(longer * rng.uniform(*MARGINS), 8.0)
    photo = crop(thing.photo, centre, side, rng.uniform(-TURNED, TURNED), mirrored=bool(rng.integers(2)))
    quarter = rng.choice(4, p=QUARTERS) if thing.source == "litter" else 0
    light = photo.astype(np.float64) / 255 * rng.uniform(0.85, 1.15, 3) * rng.uniform(0.7, 1.3)
    grey = light.mean(axis=2, keepdims=True)
    contrast = (light - grey) * rng.uniform(0.6, 1.4) + grey
    return np.rot90(contrast, quarter).clip(0, 1)


def chances(things: Sequence[Thing]) -> Floats:
    """How likely each of `things` is drawn: SOURCES states the share of a source, and in it a class with four times as many
    things has twice the share."""
    counts = Counter((thing.source, thing.category) for thing in things)
    roots = {one: count**0.5 for one, count in counts.items()}
    totals = {source: sum(root for (of, _), root in roots.items() if of == source) for source in SOURCES}
    found = np.array([SOURCES[thing.source] / (totals[thing.source] * roots[thing.source, thing.category]) for thing in things])
    return found / found.sum()


def fit(things: Sequence[Thing], network: EfficientNet, seed: int) -> EfficientNet:
    """A classifier of crops: `network`, which has no classes, and logistic regression on its features of crops of `things`."""
    session = ort.InferenceSession(export(network).SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    drawn = [things[one] for one in rng.choice(len(things), DRAWN, p=chances(things))]
    found = []
    for start in tqdm(range(0, DRAWN, BATCH), "features"):
        crops = np.stack([varied(thing, rng) for thing in drawn[start : start + BATCH]]).transpose(0, 3, 1, 2)
        found.append(session.run(None, {"crops": np.ascontiguousarray(crops, dtype=np.float32)})[0])
    features, categories = np.concatenate(found).astype(np.float64), [thing.category for thing in drawn]
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS).fit(scaler.transform(features), categories)
    log.info("right on %.3f of the crops that it was fitted on", model.score(scaler.transform(features), categories))
    if list(model.classes_) != list(range(NOTHING + 1)):
        raise ValueError(f"there are crops of the classes {model.classes_} only")
    classifier = EfficientNet(NOTHING + 1)
    classifier.load_state_dict(network.state_dict(), strict=False)
    weights = model.coef_ / scaler.scale_
    with torch.no_grad():
        classifier.classes.weight.copy_(torch.from_numpy(weights))
        classifier.classes.bias.copy_(torch.from_numpy(model.intercept_ - weights @ scaler.mean_))
    return classifier.eval()


def read_all(data: Path, detector: torch.nn.Module, seed: int) -> list[Thing]:
    """All that there is to train on in the folder `data`, with the candidates of `detector`."""
    rng = np.random.default_rng(seed)
    sets = {
        "litter": split_by_scene(load_photos(data / "litter"))["train"],
        "close-up": split_photos(load_photos(data / "recyclables"))["train"],
        "elsewhere": load_photos(data / "objects"),
    }
    found, without, proposals = [], [], []
    for source, photos in sets.items():
        for labelled in photos:
            photo = read(labelled.path)
            things = objects(labelled, photo, source)
            found += things
            if source != "close-up":  # there, most of the photo is the object
                without += empty(photo, things, rng)
                proposals += proposed(labelled.path, photo, things, detector)
    for path in grounds(data / "grounds")["train"]:
        photo = read(path)
        without += empty(photo, [], rng)
        proposals += proposed(path, photo, [], detector)
    return found + without + proposals


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "materials")
    add_seed(arguments)
    arguments.add_argument("--detector", type=Path, required=True, help="the first stage: a checkpoint of training.context")
    given = arguments.parse_args()

    network = EfficientNet()
    network.load_pretrained(needed(given.data / "start" / "efficientnet-lite2.pth"))
    detector = load_detector(needed(given.detector, "run training.context first")).network.eval()
    things = read_all(given.data, detector, given.seed)
    log.info("crops: %s", dict(Counter(thing.source for thing in things)))
    classifier = fit(things, network, given.seed)
    given.output.mkdir(parents=True, exist_ok=True)
    torch.save(classifier.state_dict(), given.output / "best.tmp")
    (given.output / "best.tmp").rename(given.output / "best.pt")
    log.info("the classifier: %s", given.output / "best.pt")


if __name__ == "__main__":
    main()
