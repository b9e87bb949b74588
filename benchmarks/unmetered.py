"""The no-op service (`noop.py`) without metrics and drift: what `metrics.py` compares it with.

bentoml serve benchmarks.unmetered:Bunriwiki
"""

from __future__ import annotations

from benchmarks.noop import Bunriwiki
from bunriwiki.artifacts.features import FeatureCounts
from bunriwiki.protocols.handlers import dataplane
from bunriwiki.protocols.rest import server


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


NO_TIMING = NoTiming()

# In the modules that use these names, before a worker creates what it serves with.
vars(server).update(RequestMetrics=NoRequestMetrics, RequestTiming=lambda: NO_TIMING)
vars(dataplane).update(PredictionMetrics=NoPredictionMetrics, note_answer=nothing)
FeatureCounts.add = nothing  # type: ignore[assignment]

__all__ = ["Bunriwiki"]
