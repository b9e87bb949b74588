"""What each version answered in this worker: counted once per batch, for the heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from artifacts.answers import Answers, Failure
from model_store.heartbeats import Served

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


class Tally:
    """Counts of the versions that answered last. One thread answers; any may read."""

    MOST_VERSIONS = 16

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._busy: tuple[str, float] | None = None

    def count(
        self, version: str, batch: Sequence[InputT], predict: Callable[[Sequence[InputT]], Answers[AnswerT]]
    ) -> Answers[AnswerT]:
        """What `predict` answers to a batch, counted for `version`; what it raises, too, as a failure of the whole batch."""
        failures = len(batch)
        self._busy = version, time.time()
        begun = time.perf_counter()
        try:
            answers = predict(batch)
            failures = sum(isinstance(one, Failure) and one.kind == "internal" for one in answers.results)
            return answers
        finally:
            self._add(version, len(batch), failures, time.perf_counter() - begun)
            self._busy = None

    def busy(self) -> tuple[str, float] | None:
        """Which version answers a batch at the moment, and since when, in seconds since the epoch."""
        return self._busy

    def figures(self) -> dict[str, Any]:
        """The fields of the heartbeat."""
        busy = self._busy
        return {"served": dict(self._served), "busy_with": busy and busy[0], "busy_since": busy and busy[1]}

    def _add(self, version: str, inputs: int, failures: int, seconds: float) -> None:
        old = self._served.get(version)
        if old is None:
            while len(self._served) >= self.MOST_VERSIONS:
                del self._served[next(iter(self._served))]
            old = Served()
        # A new object in one step: whoever reads meanwhile has the old one, whole.
        self._served[version] = Served(
            inputs=old.inputs + inputs,
            failures=old.failures + failures,
            batches=old.batches + 1,
            seconds=old.seconds + seconds,
        )
