"""That every part of the source that `benchmarks/switched.py` leaves out is still there: the benchmark itself runs rarely."""

from __future__ import annotations

import subprocess
import sys

from bunriwiki.testing.paths import ROOT

PROGRAM = """
import os, signal
from bunriwiki.batching.batcher import Batcher
from bunriwiki.protocols.handlers.dataplane import Model
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.server import RestServer

def methods():
    return (RestServer.__call__, RestServer._answer, Model.infer, Batcher.submit, Model._call_runner, Endpoints._served)

before = methods()
from benchmarks.modes import Mode
import benchmarks.switched
assert methods() == before
for mode in (Mode.NONE, Mode.NO_TICKETS, Mode.ALL):
    os.kill(os.getpid(), mode.signal)
    for old, new in zip(before, methods()):
        if new != old:
            print(mode.name, old.__qualname__, sorted(set(old.__code__.co_names) - set(new.__code__.co_names)))
"""


def test_the_methods_without_what_counts() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "NONE RestServer.__call__ ['CURRENT', 'RequestTiming', '_metrics', 'began', 'ended', 'latest', 'running', 'set']",
        "NONE RestServer._answer ['began', 'end']",
        "NONE Model.infer ['CURRENT', 'get']",
        "NONE Batcher.submit ['Results', 'perf_counter', 'taken', 'time', 'waited']",
        "NONE Model._call_runner ['append', 'calls', 'metrics', 'work']",
        "NONE Endpoints._served ['_feedback', 'request_id']",
        "NO_TICKETS Endpoints._served ['_feedback', 'request_id']",
    ]
