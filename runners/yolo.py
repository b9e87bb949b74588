"""The detector: photos in, the recyclables in them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from bunriwiki.artifacts.answers import DECIMALS, Answers, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.features import BRIGHTNESS
from bunriwiki.artifacts.golden import read_golden_photos
from bunriwiki.artifacts.image import Floats, Frame, brightness, decode
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError, ImageInput
from bunriwiki.artifacts.models import YOLO
from runners.engines import Array, open_engine
from runners.loading import WARM_UP_SAMPLES, compare_to_golden, isolating, threads
from runners.models import Loaded
from runners.throttle import Pause, unthrottled
from runners.work import WorkMeter

FORWARD_PASS = 8  # photos: more are no faster on a CPU, and take more memory

Square = tuple[Floats, Frame]


class Yolo(Loaded):
    """A loaded version of the detector. Safe to call from many threads. Raises DamagedArtifactError."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, YOLO)
        if not isinstance(self._manifest.input, ImageInput):
            raise DamagedArtifactError(f"{folder} takes {self._manifest.input.kind}, a detector takes an image")
        self._size = self._manifest.input.size
        self._engine = open_engine(folder, self._manifest, threads())
        self._decoders = ThreadPoolExecutor(threads(), thread_name_prefix="decode")

    def warm_up(self, pause: Pause = unthrottled) -> None:
        """Answer golden samples. Raises DamagedArtifactError if an answer differs from the sample's."""
        for sample in read_golden_photos(self._folder)[:WARM_UP_SAMPLES]:
            pause()
            photo = Photo(data=(self._folder / sample.image).read_bytes(), confidence=sample.confidence)
            compare_to_golden(self._folder, sample, self.predict([photo]).results[0])

    def predict(self, photos: Sequence[Photo]) -> Answers[Detections]:
        """One result per photo, in order. A photo that cannot be decoded gets a Failure."""
        meter = WorkMeter()
        squares = meter.preprocess(lambda: list(self._decoders.map(self._decode, photos)))
        results: dict[int, Detections | Failure] = {
            position: square for position, square in enumerate(squares) if isinstance(square, Failure)
        }
        groups: defaultdict[float, list[int]] = defaultdict(list)
        for position, square in enumerate(squares):
            if not isinstance(square, Failure):
                groups[photos[position].iou].append(position)  # one forward pass has one overlap threshold
        for iou, positions in groups.items():
            for start in range(0, len(positions), FORWARD_PASS):
                group = positions[start : start + FORWARD_PASS]
                items = [(squares[position], photos[position].confidence) for position in group]
                answers = isolating(partial(self._detect, iou=iou, meter=meter), items)
                results.update(zip(group, answers, strict=True))
        light = [0.0 if isinstance(square, Failure) else brightness(*square) for square in squares]
        return self._answers((results[position] for position in range(len(photos))), meter, {BRIGHTNESS: light})

    def _decode(self, photo: Photo) -> Square | Failure:
        try:
            return decode(photo.data, self._size)
        except BadImageError as error:
            return Failure(kind=error.kind, message=str(error))

    def _detect(self, items: Sequence[tuple[Square, float]], iou: float, meter: WorkMeter) -> list[Detections]:
        # The batch runs with its lowest confidence, and each photo's own confidence filters afterwards. That is exact: in
        # suppression a box is removed only by boxes with higher scores.
        found = meter.forward(
            self._engine.run,
            {
                "images": np.stack([tensor for (tensor, _), _ in items]),
                "iou": np.array([iou], dtype=np.float32),
                "confidence": np.array([min(confidence for _, confidence in items)], dtype=np.float32),
            },
        )
        return [self._answer(found, index, frame, confidence) for index, ((_, frame), confidence) in enumerate(items)]

    def _answer(self, found: dict[str, Array], index: int, frame: Frame, confidence: float) -> Detections:
        mine = np.flatnonzero((found["images_index"] == index) & (found["scores"] >= confidence))
        mine = mine[np.argsort(-found["scores"][mine], kind="stable")]
        boxes = np.round(frame.to_pixels(found["boxes"][mine]).astype(np.float64), 1).tolist()
        scores = np.round(found["scores"][mine].astype(np.float64), DECIMALS).clip(0, 1).tolist()
        labels = [self._manifest.labels[category] for category in found["classes"][mine]]
        return Detections(
            detections=tuple(
                Detection(label=label.name, label_ko=label.ko, score=score, box=tuple(box))
                for label, score, box in zip(labels, scores, boxes, strict=True)
            ),
            image=ImageSize(width=frame.width, height=frame.height),
        )
