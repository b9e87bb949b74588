"""Evidently, another project's implementation, computes the same distances. It stays in `.venv-clients`, out of the runtime."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bunriwiki.testing.paths import ROOT
from model_sync.quality.drift import js_distance, psi

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
PROGRAM = Path(__file__).with_name("evidently_distances.py")


@pytest.mark.slow
def test_the_distances_are_evidentlys() -> None:
    generator = np.random.default_rng(3)
    pairs = []
    for bins in (2, 3, 8, 20):
        for _ in range(5):
            shares = generator.dirichlet(np.full(bins, 3.0), size=2)
            # No empty bins: for these Evidently assumes a share of 0.0001, and we half an input.
            pairs.append([(generator.multinomial(1000, share) + 1).tolist() for share in shares])
    done = subprocess.run(
        [PYTHON, PROGRAM],
        input=json.dumps(pairs),
        env={**os.environ, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 20
    for (reference, window), (their_psi, their_distance) in zip(pairs, found, strict=True):
        counts = np.array(reference, dtype=np.float64), np.array(window, dtype=np.float64)
        assert psi(*counts) == pytest.approx(their_psi, rel=1e-9)
        assert js_distance(*counts) * math.sqrt(math.log(2)) == pytest.approx(their_distance, rel=1e-9)  # theirs has base e
