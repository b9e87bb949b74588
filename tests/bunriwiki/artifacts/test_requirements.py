from __future__ import annotations

from pathlib import Path

from bunriwiki.artifacts.requirements import missing
from tests.conftest import MODELS


def of(folder: Path, *lines: str) -> list[str]:
    (folder / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
    return missing(folder)


def test_what_is_not_installed_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    assert of(tmp_path, "numpy", "no-such-package==1.2", "nor-this [extra] >= 3") == [
        "no-such-package==1.2",
        "nor-this [extra] >= 3",
    ]


def test_another_version_is_not_missing(tmp_path: Path) -> None:
    assert of(tmp_path, "numpy==1.0") == []


def test_the_smaller_mlflow_will_do(tmp_path: Path) -> None:
    assert of(tmp_path, "mlflow==3.17.2") == []


def test_what_is_for_elsewhere_or_no_package_is_passed_over(tmp_path: Path) -> None:
    assert (
        of(tmp_path, "# a comment", "", "--extra-index-url x", 'no-such-package; sys_platform == "win32"', "numpy # why") == []
    )


def test_a_model_that_asks_for_nothing(tmp_path: Path) -> None:
    assert missing(tmp_path) == []


def test_the_shipped_model_has_all_that_it_needs() -> None:
    assert missing(MODELS / "sentiment" / "pyfunc") == []
