"""What the sidecar's own process loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bunriwiki.testing.paths import ROOT

HEAVY = ("onnxruntime", "sklearn", "torch", "torchvision", "transformers", "ultralytics")
PROGRAM = f"""
import sys
import model_sync.sidecar, model_sync.reconciler, model_sync.importing.importer, model_sync.evaluation.evaluate
import model_sync.live.monitor, model_sync.api.app, model_sync.cli.main
import model_sync.sources.local, model_sync.sources.mlflow_registry, model_sync.sources.s3
print(*[name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.slow
def test_the_sidecar_loads_no_model_library() -> None:
    """Artifacts are opened in sandboxed processes only, and the sidecar stays small."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
