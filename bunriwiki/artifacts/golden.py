"""Golden samples: inputs with the answers of the original model, which the served form must reproduce.

They are in `golden.jsonl` beside the manifest, one JSON object per line: `text` or `image` (a path in the folder) with the
answer of the original, `details` for a text and `detections` for a photo.
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
    """A text, and the score of each class by the original."""

    text: str
    details: dict[str, float]

    def differs(self, answer: Classification) -> str | None:
        """The difference between `answer` and the original's, in a phrase; None if they agree."""
        if answer.details.keys() != self.details.keys():
            return f"classes {sorted(answer.details)} instead of {sorted(self.details)}"
        for name, score in self.details.items():
            if not abs(answer.details[name] - score) <= SCORE_TOLERANCE:  # NaN differs, too
                return f"{name} {answer.details[name]:.4f} instead of {score:.4f}"
        return None


class GoldenPhoto(Sample):
    """A photo, by its path in the version's folder, and what the original detected above `confidence`."""

    image: str
    confidence: float
    detections: tuple[Detection, ...]

    def differs(self, answer: Detections) -> str | None:
        """The difference between `answer` and the original's, in a phrase; None if they agree.

        A box whose score is within the tolerance of `confidence` may be missing on either side.
        """
        for expected, found in ((self.detections, answer.detections), (answer.detections, self.detections)):
            for box in expected:
                certain = box.score > self.confidence + CONFIDENCE_TOLERANCE
                if certain and not any(_same(box, other) for other in found):
                    return f"{box.label} {box.score:.3f} at {[round(edge) for edge in box.box]} is on one side only"
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


def _same(box: Detection, other: Detection) -> bool:
    return (
        box.label == other.label
        and abs(box.score - other.score) <= CONFIDENCE_TOLERANCE
        and overlap(box.box, other.box) >= MIN_OVERLAP
    )


def overlap(box: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (box, other))
    return common / (areas - common) if areas > common else 0.0
