from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bunriwiki.testing.paths import ROOT

CATCHES_EVERYTHING = """
import os
import signal

try:
    os.kill(os.getpid(), signal.SIGTERM)
except BaseException:
    pass


def cli(*arguments, **options):
    pass
"""


def test_sigterm_ends_it_while_libraries_are_imported_that_catch_every_exception(tmp_path: Path) -> None:
    package = tmp_path / "bentoml_cli"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CATCHES_EVERYTHING, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-P", "-m", "bunriwiki.container"]
    started = subprocess.run(command, env=environment, check=False, timeout=60)
    assert started.returncode == 128 + signal.SIGTERM
