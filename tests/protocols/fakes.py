"""Runners that need no process: they stand where BentoML's proxies stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from artifacts.answers import Answers, Classification, Detections, Failure, ImageSize
from protocols.dataplane import DataPlane, Limits, Model
from protocols.routing import Route
from protocols.status import ModelStates, Status

DETECTIONS = Detections(detections=(), image=ImageSize(width=4, height=3))


def classified(label: str = "none") -> Classification:
    return Classification(label=label, score=0.75, details={label: 0.75, "other": 0.25}, truncated=False)


class FakeRunner:
    """Answers every input with `answer`, which may be a function of the input; `failures` are raised first, one per call."""

    def __init__(self, answer: Any, *, failures: Sequence[Exception] = (), seconds: float = 0) -> None:
        self.answer: Callable[[Any], Any] = answer if callable(answer) else lambda _: answer
        self.failures = list(failures)
        self.seconds = seconds
        self.batches: list[list[Any]] = []
        self.warm = True
        self.versions = ["v7"]

    @property
    def to_async(self) -> FakeRunner:
        return self

    async def predict(self, batch: list[Any], version: str) -> Answers[Any]:
        self.batches.append(batch)
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if version not in self.versions:
            return Answers[Any](model="fake", version=self.versions[-1], results=())
        return Answers[Any](model="fake", version=version, results=tuple(self.answer(one) for one in batch))

    async def is_ready(self) -> bool:
        if isinstance(self.warm, bool):
            return self.warm
        raise aiohttp.ClientConnectionError


class FakeRoute(Route):
    """Asks for `asks`; a runner that does not have it gets until `patience` is used up."""

    def __init__(self, asks: str = "v7", patience: int = 0) -> None:
        self.asks = asks
        self.patience = patience
        self.answers: list[str] = []

    def version(self) -> str:
        return self.asks

    def loaded(self) -> set[str]:
        return {self.asks, "v6"}

    def answered(self, version: str) -> None:
        self.answers.append(version)

    async def instead(self, offered: str) -> str:
        self.patience -= 1
        return self.asks if self.patience >= 0 else offered


class FakeStatus(Status):
    """Knows of no model."""

    def __init__(self) -> None:
        pass

    def models(self) -> ModelStates:
        return ModelStates(models=[])


def failing(one: Any) -> Failure:
    return Failure(kind="broken", message="The image is damaged.")


def model(
    runner: FakeRunner, route: Route | None = None, *, name: str = "fake", most_waiting: int = 8, deadline: float = 5
) -> Model[Any, Any]:
    return Model(name, runner, route or FakeRoute(), 4, Limits(most_waiting=most_waiting, parallel=1, deadline=deadline))


def plane(
    yolo: FakeRunner | None = None, kcbert: FakeRunner | None = None, sentiment: FakeRunner | None = None, **options: Any
) -> DataPlane:
    return DataPlane(
        yolo=model(yolo or FakeRunner(DETECTIONS), **options),
        kcbert=model(kcbert or FakeRunner(classified()), **options),
        sentiment=model(sentiment or FakeRunner(classified("긍정")), **options),
        status=FakeStatus(),
    )
