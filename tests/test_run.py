from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import run
from tests.run import counts

TESTS = """
import pytest

def test_passes(): ...
def test_passes_too(): ...
def test_fails(): assert False
@pytest.mark.skip
def test_is_skipped(): ...
@pytest.fixture
def broken(): raise ValueError
def test_has_an_error(broken): ...
"""


def test_the_results_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--junit-xml=report.xml"]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # they take seconds to import
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert counts(tmp_path / "report.xml") == {"passed": 2, "failed": 1, "skipped": 1, "errors": 1}


@pytest.mark.parametrize(
    ("lacks", "in_ci", "expected"), [(None, "", {}), ("no root", "", {"containers": "no root"}), ("no root", "true", {})]
)
def test_what_cannot_run_is_left_out_except_in_ci(
    monkeypatch: pytest.MonkeyPatch, lacks: str | None, in_ci: str, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(run, "missing", lambda: lacks)
    monkeypatch.setenv("CI", in_ci)
    assert run.left_out() == expected
