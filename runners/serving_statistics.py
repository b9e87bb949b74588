"""Counts what each version answers in this worker, for the heartbeat."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bunriwiki.artifacts.answers import Answers, Failure
from bunriwiki.artifacts.features import FeatureCounts
from bunriwiki.model_store.heartbeats import Served
from bunriwiki.telemetry.cpu import waited_seconds

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


class ServingStatistics:
    """Counts per version, of the last `MAX_VERSIONS` versions that answered.

    One batch is counted at a time, beside batches past their deadline, whose threads may be stuck. Any thread may read.
    `clock` is in seconds; `waited` returns the seconds that the calling thread has waited for a CPU core.
    """

    MAX_VERSIONS = 16

    def __init__(self, clock: Callable[[], float] = time.perf_counter, waited: Callable[[], float] = waited_seconds) -> None:
        self._clock = clock
        self._waited = waited
        self._served: dict[str, Served] = {}
        self._observed: dict[str, FeatureCounts] = {}
        self._busy: dict[int, tuple[str, float]] = {}  # version and start of each batch under way, the oldest first
        self._numbers = itertools.count()

    def count(
        self, version: str, batch: Sequence[InputT], predict: Callable[[Sequence[InputT]], Answers[AnswerT]]
    ) -> Answers[AnswerT]:
        """The answers of `predict` to a batch, counted for `version`. An exception counts as a failure of every input."""
        failures = len(batch)
        number = next(self._numbers)
        self._busy[number] = version, time.time()
        begun, waited = self._clock(), self._waited()
        try:
            answers = predict(batch)
            failures = sum(isinstance(result, Failure) and result.kind == "internal" for result in answers.results)
            observed = self._observed.get(version) or self._observed.setdefault(version, FeatureCounts())
            observed.add(batch, answers.results, answers.measured)
            return answers
        finally:
            waited = self._waited() - waited
            self._add(version, len(batch), failures, max(0.0, self._clock() - begun - waited), waited)
            del self._busy[number]

    def figures(self) -> dict[str, Any]:
        """The fields of the heartbeat."""
        version, since = next(iter(self._busy.copy().values()), (None, None))
        observed = {name: counts.histograms() for name, counts in self._observed.copy().items()}
        return {"served": dict(self._served), "observed": observed, "busy_with": version, "busy_since": since}

    def _add(self, version: str, inputs: int, failures: int, seconds: float, waited: float) -> None:
        old = self._served.get(version)
        if old is None:
            while len(self._served) >= self.MAX_VERSIONS:
                oldest = next(iter(self._served))
                del self._served[oldest]
                self._observed.pop(oldest, None)
            old = Served()
        # Replaced, not changed, so that a concurrent reader sees a consistent object.
        self._served[version] = Served(
            inputs=old.inputs + inputs,
            failures=old.failures + failures,
            batches=old.batches + 1,
            seconds=old.seconds + seconds,
            squares=old.squares + seconds * seconds,
            waited=old.waited + waited,
        )
