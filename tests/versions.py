"""New versions to publish: the shipped ones with their classes renamed in turn, so that answers tell whose they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.golden import GOLDEN
from bunriwiki.artifacts.manifest import Label, Manifest, describe_files
from tests.conftest import MODELS as SHIPPED

TURNS = {"fallback-2": 0, "v1": 1, "v2": 2, "v3": 3}  # by version


def make_version(model: str, version: str, turn: int, folder: Path) -> Path:
    """A version of `model` in `folder`, whose n-th class has the name of the shipped one's (n + turn)-th."""
    shutil.copytree(SHIPPED / model, folder)
    manifest = Manifest.read(folder)
    labels = manifest.labels
    renamed = {label.name: turned(labels, label.name, turn) for label in labels}
    lines = [json.loads(line) for line in (folder / GOLDEN).read_text(encoding="utf-8").splitlines()]
    for sample in lines:
        if "details" in sample:
            sample["details"] = {renamed[name].name: score for name, score in sample["details"].items()}
        for detection in sample.get("detections", []):
            detection |= {"label": renamed[detection["label"]].name, "label_ko": renamed[detection["label"]].ko}
    (folder / GOLDEN).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    if manifest.engine == "pyfunc":  # its columns carry the names
        code = folder / manifest.entry / "sentiment_model.py"
        names = tuple(label.name for label in labels)
        text = code.read_text(encoding="utf-8")
        old = 'LABELS = ("긍정", "부정", "중립/복합")'
        assert old in text
        code.write_text(text.replace(old, f"LABELS = {tuple(renamed[name].name for name in names)!r}"), encoding="utf-8")
    else:
        labels = tuple(renamed[label.name] for label in labels)
    manifest.model_copy(update={"version": version, "labels": labels, "files": describe_files(folder)}).write(folder)
    return folder


def turned(labels: tuple[Label, ...], name: str, turn: int) -> Label:
    """The class that stands `turn` places after the one called `name`."""
    position = [label.name for label in labels].index(name)
    return labels[(position + turn) % len(labels)]


def turned_answer(model: str, answer: dict[str, Any], turn: int) -> dict[str, Any]:
    """What a version made with `turn` answers where the shipped one answers `answer`."""
    labels = Manifest.read(SHIPPED / model).labels
    if model == "yolo":
        found = [
            {**one, "label": (new := turned(labels, one["label"], turn)).name, "label_ko": new.ko}
            for one in answer["detections"]
        ]
        return {**answer, "detections": found}
    winner = "sentiment" if model == "sentiment" else "label"
    details = {turned(labels, name, turn).name: score for name, score in answer["details"].items()}
    return {**answer, winner: turned(labels, answer[winner], turn).name, "details": details}


def agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two answers are the same but for what a batch changes: scores within 1e-3."""
    if "detections" in one:
        pairs = list(zip(one["detections"], other["detections"], strict=False))
        same = all(a["label"] == b["label"] and abs(a["score"] - b["score"]) <= 1e-3 for a, b in pairs)
        return len(one["detections"]) == len(other["detections"]) and same
    return one["details"].keys() == other["details"].keys() and all(
        abs(score - other["details"][name]) <= 1e-3 for name, score in one["details"].items()
    )
