"""Checks whether this environment has the packages that a registered pyfunc requires.

python -m bunriwiki.artifacts.requirements FOLDER

Prints `{"missing": [...]}`: the requirements of the MLflow model in FOLDER that are not installed in any version. A model is
not rejected for another version than the required one: MLflow pins the versions of the training machine, and the gates check
the answers.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from bunriwiki.artifacts.programs import ProgressWriter

SAME = {"mlflow": "mlflow-skinny"}  # the smaller package is enough to load a model


def missing(folder: Path) -> list[str]:
    """The requirements in `folder`'s `requirements.txt` that are not installed here; none if there is no such file."""
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in (line.split(" #")[0].strip() for line in lines):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:  # an option of pip, a comment or a file: not a package
            continue
        if (wanted.marker is None or wanted.marker.evaluate()) and not _installed(wanted.name):
            found.append(line)
    return found


def _installed(name: str) -> bool:
    for package in (name, SAME.get(name.lower(), name)):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        return True
    return False


if __name__ == "__main__":
    ProgressWriter().write(missing=missing(Path(sys.argv[1])))
