"""Versions to publish, made of the bundled fallback models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bunriwiki.artifacts.golden import GOLDEN
from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.artifacts.reference import PHOTOS, REFERENCE
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.rotation import rotated

BUNDLED_VERSION = Manifest.read(MODELS / "kcbert").version  # of the bundled models, which are released together
ENTRY_CODE = "sentiment_model.py"


def make_version(model: str, version: str, rotation: int, folder: Path) -> Path:
    """Write a version of `model` to `folder`, the names of whose classes are rotated by `rotation` places.

    Its n-th class has the name of the bundled model's (n + rotation)-th, so that an answer tells which version gave it.
    """
    shutil.copytree(MODELS / model, folder)
    manifest = Manifest.read(folder)
    labels = manifest.labels
    renamed = {label.name: rotated(labels, label.name, rotation) for label in labels}
    lines = [json.loads(line) for line in (folder / GOLDEN).read_text(encoding="utf-8").splitlines()]
    for sample in lines:
        if "details" in sample:
            sample["details"] = {renamed[name].name: score for name, score in sample["details"].items()}
        for detection in sample.get("detections", []):
            detection |= {"label": renamed[detection["label"]].name, "label_ko": renamed[detection["label"]].ko}
    (folder / GOLDEN).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    if manifest.engine == "pyfunc":  # its columns carry the names
        code = folder / manifest.entry / ENTRY_CODE
        names = tuple(label.name for label in labels)
        replace_once(code, f"LABELS = {as_written(names)}", f"LABELS = {tuple(renamed[name].name for name in names)!r}")
    else:
        labels = tuple(renamed[label.name] for label in labels)
    manifest.model_copy(update={"version": version, "labels": labels, "files": describe_files(folder)}).write(folder)
    return folder


def compiled(model: str, folder: Path, version: str = "v1", *, rotation: int = 0) -> Path:
    """Write a version in the served form to `folder`, as data scientists publish it: without a reference set.

    Another `version` is another digest, as the manifest has it.
    """
    make_version(model, version, rotation, folder)
    (folder / REFERENCE).unlink()
    shutil.rmtree(folder / PHOTOS, ignore_errors=True)
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    return folder


def pyfunc(folder: Path, *, predict: str = "", requirements: tuple[str, ...] = (), note: str = "") -> Path:
    """Write the bundled sentiment model to `folder` as an MLflow model.

    `predict` is a line of code that it runs at each prediction. `note` is a comment in its code: another note makes another
    model.
    """
    shutil.copytree(MODELS / "sentiment" / "pyfunc", folder)
    code = folder / ENTRY_CODE
    text = code.read_text(encoding="utf-8") + f"\n# {note}\n"
    if predict:
        head = text.index("def predict(")
        body = text.index(":\n", text.index(")", head)) + 2
        text = text[:body] + f"        {predict}\n" + text[body:]
    code.write_text(text, encoding="utf-8")
    with (folder / "requirements.txt").open("a", encoding="utf-8") as stream:
        stream.writelines(f"\n{requirement}" for requirement in requirements)
    return folder


def replace_once(file: Path, old: str, new: str) -> None:
    """Replace text in a file. Raises ValueError if `old` is not there exactly once."""
    text = file.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{file} has {old!r} {text.count(old)} times")
    file.write_text(text.replace(old, new), encoding="utf-8")


def as_written(names: tuple[str, ...]) -> str:
    """A tuple of names as the formatter writes it."""
    return "(" + ", ".join(f'"{name}"' for name in names) + ")"
