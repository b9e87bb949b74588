"""Golden samples: inputs with the answers that the original model gave, to hold the served form to.

They lie in `golden.jsonl` beside the manifest, a JSON object a line: `text` or `image` (a path in the folder) with the
original's answer, `details` for a text and `detections` for a photo.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bunriwiki.artifacts.answers import Box, Classification, Detection, Detections
from bunriwiki.artifacts.samples import Sample, read_samples, write_samples

GOLDEN = "golden.jsonl"
SCORE_TOLERANCE = 2e-3  # of a text's class score
CONFIDENCE_TOLERANCE = 2e-2  # of a detection
MIN_OVERLAP = 0.95  # of a detection's box, as intersection over union


class GoldenText(Sample):
    """A text and the original's score per class."""

    text: str
    details: dict[str, float]

    def differs(self, answer: Classification) -> str | None:
        """How `answer` disagrees with the original's, in a phrase; None when it agrees."""
        if answer.details.keys() != self.details.keys():
            return f"classes {sorted(answer.details)} instead of {sorted(self.details)}"
        for name, score in self.details.items():
            if not abs(answer.details[name] - score) <= SCORE_TOLERANCE:  # so that NaN differs
                return f"{name} {answer.details[name]:.4f} instead of {score:.4f}"
        return None


class GoldenPhoto(Sample):
    """A photo, as a path in the version's folder, and what the original found above `confidence`."""

    image: str
    confidence: float
    detections: tuple[Detection, ...]

    def differs(self, answer: Detections) -> str | None:
        """How `answer` disagrees with the original's, in a phrase; None when it agrees.

        A box whose score lies within the tolerance of `confidence` may be missing on either side.
        """
        for missing, there in ((self.detections, answer.detections), (answer.detections, self.detections)):
            for one in missing:
                certain = one.score > self.confidence + CONFIDENCE_TOLERANCE
                if certain and not any(_same(one, other) for other in there):
                    return f"{one.label} {one.score:.3f} at {[round(edge) for edge in one.box]} stands on one side only"
        return None


def read_golden_texts(folder: Path) -> list[GoldenText]:
    """The golden texts of a version. Raises DamagedArtifactError."""
    return read_samples(folder / GOLDEN, GoldenText)


def read_golden_photos(folder: Path) -> list[GoldenPhoto]:
    """The golden photos of a version. Raises DamagedArtifactError."""
    return read_samples(folder / GOLDEN, GoldenPhoto)


def write_golden(folder: Path, samples: Iterable[GoldenText | GoldenPhoto]) -> None:
    """Write `golden.jsonl` into `folder`."""
    write_samples(folder / GOLDEN, samples)


def _same(one: Detection, other: Detection) -> bool:
    return (
        one.label == other.label
        and abs(one.score - other.score) <= CONFIDENCE_TOLERANCE
        and overlap(one.box, other.box) >= MIN_OVERLAP
    )


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0
