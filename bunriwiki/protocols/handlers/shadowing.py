"""Shadow traffic: copies of live batches for a candidate version, whose answers are compared and returned to no client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Answers, Classification, Detections
from bunriwiki.model_store.heartbeats import Shadowed

DELAY_SECONDS = 0.005  # the clients' answers go first

InputT = TypeVar("InputT")


class Comparisons:
    """The results of the comparisons of one gateway worker since its start, by model and version."""

    MAX = 16

    def __init__(self) -> None:
        self._found: dict[str, Shadowed] = {}

    def add(self, model: str, version: str, inputs: int, differing: int) -> None:
        """Count `inputs` that were compared, of which `differing` got different answers."""
        key = f"{model}:{version}"
        old = self._found.get(key)
        if old is None:
            while len(self._found) >= self.MAX:
                del self._found[next(iter(self._found))]
            old = Shadowed()
        # A new object, set in one step: the heartbeat's thread reads it at the same time.
        self._found[key] = Shadowed(inputs=old.inputs + inputs, differing=old.differing + differing)

    def figures(self) -> Mapping[str, Any]:
        """The fields of the heartbeat."""
        return {"shadowed": dict(self._found)}


class Shadow(Generic[InputT]):
    """The shadow traffic of one model. One copy is in flight at a time, further copies are dropped.

    `predict` has a version answer a batch, for at most `deadline` seconds.
    """

    def __init__(
        self,
        model: str,
        predict: Callable[[list[InputT], str], Awaitable[Answers[Any]]],
        comparisons: Comparisons,
        deadline: float,
    ) -> None:
        self._model = model
        self._predict = predict
        self._comparisons = comparisons
        self._deadline = deadline
        self._task: asyncio.Task[None] | None = None

    def copy(self, batch: list[InputT], answers: Answers[Any], version: str) -> None:
        """Have `version` answer a copy of the batch that `answers` belong to. Returns at once; a failure is only logged."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._compare(batch, answers, version))

    async def _compare(self, batch: list[InputT], answers: Answers[Any], version: str) -> None:
        try:
            await asyncio.sleep(DELAY_SECONDS)
            async with asyncio.timeout(self._deadline):
                copies = await self._predict(batch, version)
        except Exception as error:  # the runner has counted the failure
            logger.debug("{}:{} did not answer a copy: {!r}", self._model, version, error)
            return
        if copies.version == version:  # otherwise the worker does not have this version
            self._comparisons.add(self._model, version, len(batch), differing(answers.results, copies.results))


def differing(answers: Sequence[Any], others: Sequence[Any]) -> int:
    """How many of the answers to the same inputs differ in their classes; scores and boxes do not count."""
    return sum(_classes(answer) != _classes(other) for answer, other in zip(answers, others, strict=True))


def _classes(answer: Any) -> object:
    match answer:
        case Classification():
            return answer.label
        case Detections():
            return sorted(detection.label for detection in answer.detections)
        case _:
            return answer.kind  # of a failure
