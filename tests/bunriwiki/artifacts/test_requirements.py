from __future__ import annotations

from pathlib import Path

from bunriwiki.artifacts.requirements import missing
from bunriwiki.testing.paths import MODELS


def missing_of(folder: Path, *lines: str) -> list[str]:
    (folder / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
    return missing(folder)


def test_missing_requirements_are_named_as_they_were_written(tmp_path: Path) -> None:
    assert missing_of(tmp_path, "numpy", "no-such-package==1.2", "nor-this [extra] >= 3") == [
        "no-such-package==1.2",
        "nor-this [extra] >= 3",
    ]


def test_another_installed_version_is_not_missing(tmp_path: Path) -> None:
    assert missing_of(tmp_path, "numpy==1.0") == []


def test_mlflow_skinny_satisfies_mlflow(tmp_path: Path) -> None:
    assert missing_of(tmp_path, "mlflow==3.17.2") == []


def test_other_platforms_and_lines_without_a_package_are_skipped(tmp_path: Path) -> None:
    lines = ["# a comment", "", "--extra-index-url x", 'no-such-package; sys_platform == "win32"', "numpy # why"]
    assert missing_of(tmp_path, *lines) == []


def test_a_model_without_requirements(tmp_path: Path) -> None:
    assert missing(tmp_path) == []


def test_the_bundled_model_misses_nothing() -> None:
    assert missing(MODELS / "sentiment" / "pyfunc") == []
