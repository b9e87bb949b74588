"""Runners that need no process: they stand where BentoML's proxies stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.answers import Answers, Classification, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.admin.tokens import AdminGate
from bunriwiki.protocols.handlers.dataplane import DataPlane, Limits, Model
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.handlers.status import ModelState, ModelStates, Status, WorkerState
from bunriwiki.protocols.inference.handlers import OpenInference
from tests.conftest import MODELS as SHIPPED

BOX = Detection(label="plastic", label_ko="플라스틱", score=0.75, box=(1.0, 2.0, 3.0, 4.0))
FOUND = Detections(detections=(BOX, BOX), image=ImageSize(width=4, height=3))
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

    async def predict(self, inputs: Sequence[Any], version: str) -> Answers[Any]:
        self.batches.append(list(inputs))
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        if version not in self.versions:
            return Answers(model="fake", version=self.versions[-1], results=())
        return Answers(model="fake", version=version, results=tuple(self.answer(one) for one in inputs))

    async def is_ready(self) -> bool:
        return self.warm


class FakeRoute(Route):
    """Asks for `asks`; a runner that does not have it gets until `patience` is used up.

    The first batches are stamped with `canaries`, one after the other; copies go to `copies_to`.
    """

    def __init__(self, asks: str = "v7", patience: int = 0, canaries: Sequence[str] = (), copies_to: str | None = None) -> None:
        self.asks = asks
        self.patience = patience
        self.canaries = list(canaries)
        self.copies_to = copies_to
        self.answers: list[str] = []

    def version(self) -> str:
        return self.asks

    def draw(self) -> str:
        return self.canaries.pop(0) if self.canaries else self.asks

    def shadow(self) -> str | None:
        return self.copies_to

    def loaded(self) -> set[str]:
        return {self.asks, "v6"}

    def answered(self, version: str) -> None:
        self.answers.append(version)

    async def instead(self, offered: str) -> str:
        self.patience -= 1
        return self.asks if self.patience >= 0 else offered


class FakeStatus(Status):
    """One worker of each of `models`, with `loaded` in its memory; the first of it serves."""

    def __init__(self, models: Sequence[str] = (), loaded: Mapping[str, str] | None = None) -> None:
        self.names = models
        self.memory = dict(loaded or {})
        self.waits_for: str | None = None

    def models(self) -> ModelStates:
        return ModelStates(models=[self.state(name) for name in self.names], sync_problems=[])

    def waiting(self) -> str | None:
        return self.waits_for

    def state(self, name: str) -> ModelState:
        serving = next(iter(self.memory), "")
        worker = WorkerState(
            name="one", here=True, host="here", pid=1, state="ready", generation=0, serving=serving,
            loaded=self.memory, errors={}, rss=0, seconds_since_heard=0,
        )  # fmt: skip
        return ModelState(
            name=name, generation=0, serving=serving, previous=None, preparing=None, source="a test", by=None,
            since=None, pinned=False, degraded=False, reasons=[], sync=None, workers=[worker],
        )  # fmt: skip


def failing(one: Any) -> Failure:
    return Failure(kind="broken", message="The image is damaged.")


def model(
    runner: FakeRunner,
    route: Route | None = None,
    *,
    name: str = "fake",
    max_queue_size: int = 8,
    deadline: float = 5,
    comparisons: Comparisons | None = None,
) -> Model[Any, Any]:
    limits = Limits(max_queue_size=max_queue_size, parallel=1, deadline=deadline)
    return Model(name, runner, route or FakeRoute(), 4, limits, comparisons=comparisons or Comparisons())


def plane(
    yolo: FakeRunner | None = None, kcbert: FakeRunner | None = None, sentiment: FakeRunner | None = None, **options: Any
) -> DataPlane:
    return DataPlane(
        yolo=model(yolo or FakeRunner(DETECTIONS), **options),
        kcbert=model(kcbert or FakeRunner(classified()), **options),
        sentiment=model(sentiment or FakeRunner(classified("긍정")), **options),
        status=FakeStatus(),
    )


@cache
def fallbacks() -> GenerationWatcher:
    """A generation_watcher of no store."""
    return GenerationWatcher(Layout(Path("nowhere")), {name: SHIPPED / name for name in MODELS})


class FakeService:
    """The handlers of the Open Inference Protocol over three models; `runners` has what was asked of whom."""

    def __init__(self, serving: str = "v7") -> None:
        comment, review = FakeRunner(classified()), FakeRunner(classified("긍정"))
        self.runners = {"yolo": FakeRunner(FOUND), "kcbert": comment, "sentiment": review}
        for runner in self.runners.values():
            runner.versions = ["v6", serving]
        models: dict[str, Any] = {name: model(runner, FakeRoute(serving), name=name) for name, runner in self.runners.items()}
        self.status = FakeStatus(MODELS, {serving: "available", "v6": "available", "v8": "loading"})
        self.dataplane = DataPlane(**models, status=self.status)
        self.handlers = OpenInference(self.dataplane, fallbacks(), Sidecar("http://127.0.0.1:9", AdminGate(["secret"]), 1))
