from __future__ import annotations

import pytest

from bunriwiki.telemetry.bentoml_metrics import BentoMetrics


@pytest.fixture(scope="session")
def bentoml_metrics() -> BentoMetrics:
    """BentoML's metrics, which a process can create once only."""
    return BentoMetrics()
