"""That every part of the source that `benchmarks/unmetered.py` leaves out is still there: the benchmark itself runs rarely."""

from __future__ import annotations

import subprocess
import sys

from bunriwiki.testing.paths import ROOT

PROGRAM = """
from bunriwiki.batching.batcher import Batcher
from bunriwiki.protocols.handlers.dataplane import Model
from bunriwiki.protocols.rest.endpoints import Endpoints
from bunriwiki.protocols.rest.server import RestServer
before = {method: method.__code__.co_names for method in (RestServer.__call__, RestServer._answer, Model.infer, Batcher.submit)}
import benchmarks.unmetered
after = (RestServer.__call__, RestServer._answer, Model.infer, Batcher.submit)
for old, new in zip(before, after):
    print(old.__qualname__, sorted(set(before[old]) - set(new.__code__.co_names)))
"""


def test_the_methods_without_what_counts() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        "RestServer.__call__ ['RequestTiming', '_metrics', 'ended', 'latest', 'running']",
        "RestServer._answer ['began', 'end']",
        "Model.infer ['CURRENT', 'get']",
        "Batcher.submit ['Results', 'perf_counter', 'taken', 'time', 'waited']",
    ]
