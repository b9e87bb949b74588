"""The answers of versions whose classes have rotated names (`versions.make_version`)."""

from __future__ import annotations

from typing import Any

from bunriwiki.artifacts.manifest import Label, Manifest
from bunriwiki.testing.paths import MODELS

TOLERANCE = 1e-3  # of a score, between two batches


def rotated(labels: tuple[Label, ...], name: str, rotation: int) -> Label:
    """The class `rotation` places after the one called `name`."""
    position = [label.name for label in labels].index(name)
    return labels[(position + rotation) % len(labels)]


def rotated_answer(model: str, answer: dict[str, Any], rotation: int) -> dict[str, Any]:
    """What a version with `rotation` answers where the bundled model answers `answer`."""
    labels = Manifest.read(MODELS / model).labels
    if model == "yolo":
        found = [
            {**detection, "label": (new := rotated(labels, detection["label"], rotation)).name, "label_ko": new.ko}
            for detection in answer["detections"]
        ]
        return {**answer, "detections": found}
    winner = "sentiment" if model == "sentiment" else "label"
    details = {rotated(labels, name, rotation).name: score for name, score in answer["details"].items()}
    return {**answer, winner: rotated(labels, answer[winner], rotation).name, "details": details}


def agree(answer: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers are the same but for what a batch changes: scores within 1e-3."""
    if "detections" in answer:
        pairs = list(zip(answer["detections"], other["detections"], strict=False))
        same = all(a["label"] == b["label"] and abs(a["score"] - b["score"]) <= TOLERANCE for a, b in pairs)
        return len(answer["detections"]) == len(other["detections"]) and same
    return answer["details"].keys() == other["details"].keys() and all(
        abs(score - other["details"][name]) <= TOLERANCE for name, score in answer["details"].items()
    )
