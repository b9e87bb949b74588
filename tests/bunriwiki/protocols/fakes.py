"""Runners without a process, and the handlers over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.answers import Answers, Classification, Detection, Detections, Failure, ImageSize
from bunriwiki.artifacts.models import KCBERT, SENTIMENT, SPECS, YOLO, ModelSpec
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers.dataplane import DataPlane, Limits, Model
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.handlers.status import ServiceModelStatus, ServiceStatus, ServiceWorkerStatus, Status
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.telemetry.spans import Tracing
from bunriwiki.testing.paths import MODELS as SHIPPED
from bunriwiki.web.tokens import TokenGate

MAX_BATCH_SIZE = 4
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
        return Answers(model="fake", version=version, results=tuple(self.answer(item) for item in inputs))

    async def is_ready(self) -> bool:
        return self.warm


class FakeRoute(Route):
    """Batches are for version `serving`, and for what the runner offers after `patience` batches that it did not have.

    The first batches are for `canaries`, one after the other; shadow copies go to `shadow_version`.
    """

    def __init__(
        self, serving: str = "v7", patience: int = 0, canaries: Sequence[str] = (), shadow_version: str | None = None
    ) -> None:
        self.serving = serving
        self.patience = patience
        self.canaries = list(canaries)
        self.shadow_version = shadow_version
        self.answers: list[str] = []

    def version(self) -> str:
        return self.serving

    def draw(self) -> str:
        return self.canaries.pop(0) if self.canaries else self.serving

    def shadow(self) -> str | None:
        return self.shadow_version

    def loaded(self) -> set[str]:
        return {self.serving, "v6"}

    def answered(self, version: str) -> None:
        self.answers.append(version)

    async def instead(self, offered: str) -> str:
        self.patience -= 1
        return self.serving if self.patience >= 0 else offered


class FakeStatus(Status):
    """One worker of each of `models`, with the versions `loaded` in its memory, of which the first serves."""

    def __init__(self, models: Sequence[str] = (), loaded: Mapping[str, str] | None = None) -> None:
        self.names = models
        self.memory = dict(loaded or {})
        self.waits_for: str | None = None

    def models(self) -> ServiceStatus:
        return ServiceStatus(models=tuple(self.status(name) for name in self.names), problems=())

    def waiting(self) -> str | None:
        return self.waits_for

    def status(self, name: str) -> ServiceModelStatus:
        serving = next(iter(self.memory), "")
        worker = ServiceWorkerStatus(
            name="worker", here=True, host="here", pid=1, state="ready", generation=0, serving=serving,
            loaded=self.memory, errors={}, rss_bytes=0, heartbeat_age_seconds=0,
        )  # fmt: skip
        return ServiceModelStatus(
            name=name, generation=0, serving=None, previous=None, preparing=None, canary=None, paused=None,
            pinned=False, held=(), cancelled=None, workers=(worker,), sync=None, fallback=serving, degraded=False, reasons=(),
        )  # fmt: skip


def failing(_: object) -> Failure:
    return Failure(kind="broken", message="The image is damaged.")


def model(
    runner: FakeRunner,
    route: Route | None = None,
    *,
    spec: ModelSpec[Any, Any] = KCBERT,
    max_queue_size: int = 8,
    max_queue_cost: float = inf,
    deadline: float = 5,
    comparisons: Comparisons | None = None,
    tracing: Tracing | None = None,
) -> Model[Any, Any]:
    """A model with small batches, whose runner gets one call at a time."""
    spec = replace(spec, max_batch_size=MAX_BATCH_SIZE)
    limits = Limits(max_queue_size=max_queue_size, parallel_calls=1, deadline_seconds=deadline, max_queue_cost=max_queue_cost)
    return Model(spec, runner, route or FakeRoute(), limits, comparisons=comparisons or Comparisons(), tracing=tracing)


def plane(
    yolo: FakeRunner | None = None, kcbert: FakeRunner | None = None, sentiment: FakeRunner | None = None, **options: Any
) -> DataPlane:
    models = [
        model(yolo or FakeRunner(DETECTIONS), spec=YOLO, **options),
        model(kcbert or FakeRunner(classified()), spec=KCBERT, **options),
        model(sentiment or FakeRunner(classified("긍정")), spec=SENTIMENT, **options),
    ]
    return DataPlane(models, FakeStatus())


@cache
def fallbacks() -> GenerationWatcher:
    """A watcher without a store: the fallback versions serve."""
    return GenerationWatcher(Layout(Path("nowhere")), {name: SHIPPED / name for name in SPECS})


class FakeService:
    """The handlers of the Open Inference Protocol over three models; `runners` record the batches that they get.

    `options` are those of `model`.
    """

    def __init__(self, serving: str = "v7", feedback: Feedback | None = None, **options: Any) -> None:
        comment, review = FakeRunner(classified()), FakeRunner(classified("긍정"))
        self.runners = {"yolo": FakeRunner(FOUND), "kcbert": comment, "sentiment": review}
        for runner in self.runners.values():
            runner.versions = ["v6", serving]
        models = [model(runner, FakeRoute(serving), spec=SPECS[name], **options) for name, runner in self.runners.items()]
        self.status = FakeStatus(tuple(SPECS), {serving: "available", "v6": "available", "v8": "loading"})
        self.dataplane = DataPlane(models, self.status)
        sidecar = Sidecar("http://127.0.0.1:9", TokenGate(["secret"]), 1)
        self.handlers = OpenInference(self.dataplane, fallbacks(), sidecar, feedback=feedback)
