"""Copies of live batches for a version that is being tried: nobody waits for its answers, they are only compared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Answers, Classification, Detections
from bunriwiki.model_store.heartbeats import Shadowed

LATER = 0.005  # seconds: the clients' answers go first

InputT = TypeVar("InputT")


class Comparisons:
    """What the comparisons of one gateway worker have found since its start, by model and version."""

    MAX = 16

    def __init__(self) -> None:
        self._found: dict[str, Shadowed] = {}

    def add(self, model: str, version: str, inputs: int, differing: int) -> None:
        """So many inputs were compared, and so many of them answered differently."""
        key = f"{model}:{version}"
        old = self._found.get(key)
        if old is None:
            while len(self._found) >= self.MAX:
                del self._found[next(iter(self._found))]
            old = Shadowed()
        # A new object in one step: the heartbeat's thread reads meanwhile.
        self._found[key] = Shadowed(inputs=old.inputs + inputs, differing=old.differing + differing)

    def figures(self) -> Mapping[str, Any]:
        """The fields of the heartbeat."""
        return {"shadowed": dict(self._found)}


class Shadow(Generic[InputT]):
    """One model's copies. `ask` has a batch answered by a version; one copy at a time is under way, others are dropped."""

    def __init__(
        self,
        model: str,
        ask: Callable[[list[InputT], str], Awaitable[Answers[Any]]],
        comparisons: Comparisons,
        deadline: float,
    ) -> None:
        self._model = model
        self._ask = ask
        self._comparisons = comparisons
        self._deadline = deadline
        self._task: asyncio.Task[None] | None = None

    def copy(self, batch: list[InputT], answers: Answers[Any], version: str) -> None:
        """Have `version` answer the batch that `answers` were given for. Returns at once; whatever fails, fails quietly."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._compare(batch, answers, version))

    async def _compare(self, batch: list[InputT], answers: Answers[Any], version: str) -> None:
        try:
            await asyncio.sleep(LATER)
            async with asyncio.timeout(self._deadline):
                copies = await self._ask(batch, version)
        except Exception as error:  # the runner has counted it
            logger.debug("{}:{} did not answer a copy: {!r}", self._model, version, error)
            return
        if copies.version == version:  # else the worker does not have it
            self._comparisons.add(self._model, version, len(batch), differing(answers.results, copies.results))


def differing(ones: Sequence[Any], others: Sequence[Any]) -> int:
    """How many of the answers to the same inputs differ in what they say: in classes, not in scores or places."""
    return sum(_said(one) != _said(other) for one, other in zip(ones, others, strict=True))


def _said(answer: Any) -> object:
    match answer:
        case Classification():
            return answer.label
        case Detections():
            return sorted(one.label for one in answer.detections)
        case _:
            return answer.kind  # of a failure
