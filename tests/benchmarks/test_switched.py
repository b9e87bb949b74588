"""That every part of the source that `benchmarks/switched.py` leaves out is still there: the benchmark itself runs rarely."""

from __future__ import annotations

import subprocess
import sys

from bunriwiki.testing.paths import ROOT

PROGRAM = """
import os
from benchmarks.modes import Mode
from benchmarks.switched import USUAL
for mode in (Mode.NONE, Mode.NO_TICKETS, Mode.ALL):
    os.kill(os.getpid(), mode.signal)
    for function, usual in USUAL.items():
        if function.__code__ is not usual:
            print(mode.name, function.__qualname__, sorted(set(usual.co_names) - set(function.__code__.co_names)))
"""


def test_the_methods_without_what_counts() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert [line for line in found.stdout.splitlines() if "FeatureCounts" not in line] == [
        "NONE Endpoints._served ['_feedback', 'request_id']",
        "NONE RestServer.__call__ ['RequestTiming', '_metrics', 'ended', 'latest', 'running']",
        "NONE RestServer._answer ['began', 'end']",
        "NONE Model.infer []",
        "NONE Model._call_runner ['append', 'calls', 'metrics', 'work']",
        "NONE publish ['_count', '_read', 'items', 'set']",
        "NO_TICKETS Endpoints._served ['_feedback', 'request_id']",
    ]
