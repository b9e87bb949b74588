"""The detector: photos in, the recyclables in them out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from loguru import logger

from bunriwiki.artifacts.answers import DECIMALS, Answers, Box, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.features import BRIGHTNESS
from bunriwiki.artifacts.golden import read_golden_photos
from bunriwiki.artifacts.image import Floats, Frame, brightness, decode
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError, ImageInput, Label
from bunriwiki.artifacts.models import YOLO
from bunriwiki.disposal.telling import UNKNOWN, how_to_tell
from bunriwiki.settings import settings
from runners.engines import Array, open_engine
from runners.loading import WARM_UP_SAMPLES, compare_to_golden, isolating, threads
from runners.models import Loaded
from runners.throttle import Pause, unthrottled
from runners.work import WorkMeter

Square = tuple[Floats, Frame]


class Yolo(Loaded):
    """A loaded version of the detector. Safe to call from many threads. Raises DamagedArtifactError."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, YOLO)
        if not isinstance(self._manifest.input, ImageInput):
            raise DamagedArtifactError(f"{folder} takes {self._manifest.input.kind}, a detector takes an image")
        self._engine = open_engine(folder, self._manifest, threads())
        self._own_size = self._manifest.input.size
        self._size = self._served_size(settings().yolo_size)
        self._uncertain_below = self._manifest.output.uncertain_below if self._manifest.output else 0.0
        self._decoders = ThreadPoolExecutor(threads(), thread_name_prefix="decode")

    def warm_up(self, pause: Pause = unthrottled) -> None:
        """Answer golden samples at the version's own size. Raises DamagedArtifactError if an answer differs from its sample."""
        for sample in read_golden_photos(self._folder)[:WARM_UP_SAMPLES]:
            pause()
            photo = Photo(data=(self._folder / sample.image).read_bytes(), confidence=sample.confidence)
            compare_to_golden(self._folder, sample, self._predict([photo], self._own_size).results[0])

    def predict(self, photos: Sequence[Photo]) -> Answers[Detections]:
        """One result per photo, in order. A photo that cannot be decoded gets a Failure."""
        return self._predict(photos, self._size)

    def _predict(self, photos: Sequence[Photo], size: int) -> Answers[Detections]:
        # One photo per forward pass: together they are no faster on a CPU, and take as much memory as all of them.
        meter = WorkMeter()
        squares = meter.preprocess(lambda: list(self._decoders.map(partial(_decode, size=size), photos)))
        results: list[Detections | Failure] = []
        for photo, square in zip(photos, squares, strict=True):
            results += [square] if isinstance(square, Failure) else isolating(partial(self._detect, meter), [(photo, square)])
        light = [0.0 if isinstance(square, Failure) else brightness(*square) for square in squares]
        return self._answers(results, meter, {BRIGHTNESS: light})

    def _detect(self, meter: WorkMeter, items: Sequence[tuple[Photo, Square]]) -> list[Detections]:
        return [
            self._answer(
                meter.forward(
                    self._engine.run,
                    {
                        "images": tensor[None],
                        "iou": np.array([photo.iou], dtype=np.float32),
                        "confidence": np.array([photo.confidence], dtype=np.float32),
                    },
                ),
                frame,
                photo.confidence,
            )
            for photo, (tensor, frame) in items
        ]

    def _answer(self, found: dict[str, Array], frame: Frame, confidence: float) -> Detections:
        mine = np.flatnonzero(found["scores"] >= confidence)
        mine = mine[np.argsort(-found["scores"][mine], kind="stable")]
        boxes = np.round(frame.to_pixels(found["boxes"][mine]).astype(np.float64), 1).tolist()
        scores = np.round(found["scores"][mine].astype(np.float64), DECIMALS).clip(0, 1).tolist()
        labels = [self._manifest.labels[category] for category in found["classes"][mine]]
        others = self._others(found, mine)
        return Detections(
            detections=tuple(
                _detection(label, score, tuple(box), other)
                for label, score, box, other in zip(labels, scores, boxes, others, strict=True)
            ),
            image=ImageSize(width=frame.width, height=frame.height),
        )

    def _others(self, found: dict[str, Array], boxes: Array) -> list[Label | None]:
        """For each of the boxes the second likeliest class, if the likeliest is uncertain; else None."""
        if not self._uncertain_below:
            return [None] * len(boxes)
        class_scores = found["class_scores"][boxes]  # a copy
        uncertain = found["scores"][boxes] < self._uncertain_below
        class_scores[np.arange(len(boxes)), found["classes"][boxes]] = -1
        return [
            self._manifest.labels[second] if unsure else None
            for second, unsure in zip(class_scores.argmax(axis=1), uncertain, strict=True)
        ]

    def _served_size(self, wanted: int) -> int:
        """The side of the square: `wanted` if that is less than the version's own, not 0, and the graph takes it."""
        if not 0 < wanted < self._own_size:
            return self._own_size
        try:
            self._engine.run(_grey(wanted))
        except Exception as error:  # the engines' exceptions have no common base
            logger.warning(
                "yolo {} serves squares of {} pixels: its graph does not take those of BUNRIWIKI_YOLO_SIZE ({} pixels). "
                "Try a multiple of 64. If the graph takes one size only, publish the detector again: this release compiles it "
                "for all. {}",
                self._manifest.version, self._own_size, wanted, error,
            )  # fmt: skip
            return self._own_size
        return wanted


def _decode(photo: Photo, size: int) -> Square | Failure:
    try:
        return decode(photo.data, size)
    except BadImageError as error:
        return Failure(kind=error.kind, message=str(error))


def _grey(size: int) -> dict[str, Array]:
    """The inputs of a forward pass of a grey square, in which nothing is found."""
    return {
        "images": np.full((1, 3, size, size), 0.5, dtype=np.float32),
        "iou": np.ones(1, dtype=np.float32),
        "confidence": np.ones(1, dtype=np.float32),
    }


def _detection(label: Label, score: float, box: Box, other: Label | None) -> Detection:
    """A detection; with `other`, the second likeliest class, an uncertain one."""
    if other is None:
        return Detection(label=label.name, label_ko=label.ko, score=score, box=box)
    telling = how_to_tell(label.name, other.name)
    return Detection(label=label.name, label_ko=UNKNOWN, score=score, box=box, uncertain=True, how_to_tell=telling)
