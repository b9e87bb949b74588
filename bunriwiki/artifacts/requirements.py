"""Does this environment have what a registered pyfunc asks for?

python -m bunriwiki.artifacts.requirements FOLDER

Prints `{"missing": [...]}`: requirements of the MLflow model in FOLDER of which this interpreter has no version at all. Another
version than the one that is asked for is no reason to reject a model: MLflow pins whatever lay on the trainer's machine, and
whether the answers hold is for the gates to say.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from bunriwiki.artifacts.programs import ProgressWriter

SAME = {"mlflow": "mlflow-skinny"}  # loading a model takes the smaller one


def missing(folder: Path) -> list[str]:
    """The requirements in `requirements.txt`, one by one, that are not installed here."""
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in (line.split(" #")[0].strip() for line in lines):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:  # an option of pip, a comment, a file: nothing that can be looked up
            continue
        if (wanted.marker is None or wanted.marker.evaluate()) and not _installed(wanted.name):
            found.append(line)
    return found


def _installed(name: str) -> bool:
    for one in (name, SAME.get(name.lower(), name)):
        try:
            version(one)
        except PackageNotFoundError:
            continue
        return True
    return False


if __name__ == "__main__":
    ProgressWriter().write(missing=missing(Path(sys.argv[1])))
