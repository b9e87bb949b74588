"""The no-op service (`noop.py`) without metrics and drift: what `metrics.py` compares it with.

bentoml serve benchmarks.unmetered:Bunriwiki
"""

from __future__ import annotations

from bunriwiki.artifacts import features
from bunriwiki.protocols.handlers import timing
from bunriwiki.protocols.rest import metrics as rest_metrics
from bunriwiki.telemetry.metrics import predictions


class NoRequestMetrics:
    def __init__(self, *_: object) -> None:
        pass

    begin = end = staticmethod(lambda *_: 0)


def nothing(*_: object) -> None:
    pass


class NoPredictionMetrics:
    def __init__(self, model: str) -> None:
        pass

    begin = answered = failed = shed = called = queued = transferred = queue_changed = staticmethod(nothing)


class NoTiming:
    end = staticmethod(nothing)

    @classmethod
    def begin(cls) -> NoTiming:
        return NO_TIMING


NO_TIMING = NoTiming()

# Before the modules that import these names are imported.
rest_metrics.RequestMetrics = NoRequestMetrics  # type: ignore[misc,assignment]
predictions.PredictionMetrics = NoPredictionMetrics  # type: ignore[misc,assignment]
timing.RequestTiming = NoTiming  # type: ignore[misc,assignment]
timing.note_answer = nothing  # type: ignore[assignment]
features.FeatureCounts.add = nothing  # type: ignore[assignment]

from benchmarks.noop import Bunriwiki  # noqa: E402 - after the metrics were replaced

__all__ = ["Bunriwiki"]
