"""What each version answered in this worker: counted once per batch, for the heartbeat."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bunriwiki.artifacts.answers import Answers, Failure
from bunriwiki.model_store.heartbeats import Served

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


class ServingStatistics:
    """Counts of the versions that answered last. One thread answers at a time; any may read.

    Beside it there may be threads that never end: at its deadline BentoML gives a batch up, and goes on with others.
    """

    MAX_VERSIONS = 16

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._busy: dict[int, tuple[str, float]] = {}  # the batches under way, the oldest first
        self._numbers = itertools.count()

    def count(
        self, version: str, batch: Sequence[InputT], predict: Callable[[Sequence[InputT]], Answers[AnswerT]]
    ) -> Answers[AnswerT]:
        """What `predict` answers to a batch, counted for `version`; what it raises, too, as a failure of the whole batch."""
        failures = len(batch)
        number = next(self._numbers)
        self._busy[number] = version, time.time()
        begun = time.perf_counter()
        try:
            answers = predict(batch)
            failures = sum(isinstance(one, Failure) and one.kind == "internal" for one in answers.results)
            return answers
        finally:
            self._add(version, len(batch), failures, time.perf_counter() - begun)
            del self._busy[number]

    def figures(self) -> dict[str, Any]:
        """The fields of the heartbeat."""
        version, since = next(iter(self._busy.copy().values()), (None, None))
        return {"served": dict(self._served), "busy_with": version, "busy_since": since}

    def _add(self, version: str, inputs: int, failures: int, seconds: float) -> None:
        old = self._served.get(version)
        if old is None:
            while len(self._served) >= self.MAX_VERSIONS:
                del self._served[next(iter(self._served))]
            old = Served()
        # A new object in one step: whoever reads meanwhile has the old one, whole.
        self._served[version] = Served(
            inputs=old.inputs + inputs,
            failures=old.failures + failures,
            batches=old.batches + 1,
            seconds=old.seconds + seconds,
        )
