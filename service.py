"""The Bento: which service, which routes, which runners. Nothing else."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import bentoml
import psutil
from pydantic import Field

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE, DEFAULT_IOU, Photo
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.disposal.advice import Guide
from bunriwiki.ipc.client import RunnerClient
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.outer_app import put_outside
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.admin.tokens import AdminGate
from bunriwiki.protocols.grpc.server import Certificates, GrpcServer
from bunriwiki.protocols.handlers.dataplane import DataPlane, Limits, Model
from bunriwiki.protocols.handlers.draining import drain_on_sigterm
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.handlers.startup import FirstSync
from bunriwiki.protocols.handlers.status import Status
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.protocols.rest.commands import CommandRoutes
from bunriwiki.protocols.rest.open_inference import OpenInferenceRoutes
from bunriwiki.protocols.rest.schemas import HateSpeech, Recyclables, Sentiment
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.settings import settings
from bunriwiki.supervisor import CLOSING, SOCKETS, supervise
from bunriwiki.telemetry import logs
from bunriwiki.telemetry.collector import set_up_collector
from bunriwiki.telemetry.metrics import begin_with_models, version_info
from bunriwiki.telemetry.vitals import Vitals
from runners.services import KcBertRunner, SentimentRunner, YoloRunner

guide = Guide.read()  # here, so that a bad one stops the start
door = RestServer(guide=guide, log_requests=settings().log_requests, read_seconds=settings().deadline_seconds)

Threshold = Annotated[float, Field(ge=0, le=1)]


@bentoml.service(
    name="bunriwiki",
    workers=settings().gateway_workers,
    logging={"access": {"enabled": False}},
    http={"port": settings().port},
    envs=[
        # No request passes BentoML's instrumentation (bunriwiki/outer_app.py); this keeps its exporters from starting.
        {"name": "OTEL_SDK_DISABLED", "value": "true"},
        # What a worker would print before it has loaded us, and so not in our form (bunriwiki/telemetry/logs.py).
        {"name": "BENTOML_QUIET", "value": "true"},
        # Or glibc would spread the memory of decoded photos over an arena per thread.
        {"name": "MALLOC_ARENA_MAX", "value": "2"},
    ],
)
class Bunriwiki:
    """Recyclables in photos, hate speech and sentiment in Korean text."""

    # So that BentoML starts them. Batches reach them over the hop.
    yolo = bentoml.depends(YoloRunner)
    kcbert = bentoml.depends(KcBertRunner)
    sentiment = bentoml.depends(SentimentRunner)

    @bentoml.on_deployment
    @staticmethod
    def watch_over_the_workers() -> None:
        """Runs once, in the parent of all workers."""
        logs.configure(settings().log_level)
        supervise()

    def __init__(self) -> None:
        logs.configure(settings().log_level)
        layout = Layout(settings().model_store)
        self.generation_watcher = GenerationWatcher(layout, {model: settings().models / model for model in MODELS})
        first_sync = FirstSync(
            layout.sync,
            settings().start_wait_seconds,
            expected=settings().syncs,
            started=psutil.Process(os.getppid()).create_time(),
        )
        self.status = Status(layout, self.generation_watcher, settings().runner_workers, first_sync)
        self.grpc_server: GrpcServer | None = None
        self.comparisons = Comparisons()
        self.vitals = Vitals("gateway", Heartbeats(layout.run), settings().vital_limits, self.comparisons.figures)

    @bentoml.on_startup
    async def start_servers(self) -> None:
        """Runs in each gateway worker."""
        limits = Limits(settings().max_queue_size, settings().runner_workers, settings().deadline_seconds)
        model = partial(Model, limits=limits, comparisons=self.comparisons)
        sockets = Path(os.environ[SOCKETS])
        yolo = RunnerClient(sockets / "yolo", Detections)
        kcbert, sentiment = (RunnerClient(sockets / name, Classification) for name in ("kcbert", "sentiment"))
        self.runners: list[RunnerClient[Any]] = [yolo, kcbert, sentiment]
        self.dataplane = DataPlane(
            yolo=model("yolo", yolo, Route("yolo", self.generation_watcher), 8),
            kcbert=model("kcbert", kcbert, Route("kcbert", self.generation_watcher), 64),
            sentiment=model("sentiment", sentiment, Route("sentiment", self.generation_watcher), 64),
            status=self.status,
        )
        self.sidecar = Sidecar(settings().sync_url, AdminGate(settings().admin_tokens), settings().deadline_seconds)
        handlers = OpenInference(self.dataplane, self.generation_watcher, self.sidecar)
        door.commands = CommandRoutes(self.sidecar)
        door.open_inference = OpenInferenceRoutes(handlers)
        door.dataplane = self.dataplane
        door.begin_counting()
        begin_with_models(MODELS)
        self.generation_watcher.start(on_change=lambda: None)  # each batch reads it anew
        Thread(target=self.vitals.keep_beating, name="heartbeat", daemon=True).start()
        if settings().grpc_port:
            self.grpc_server = GrpcServer(handlers, door.memory)
            await self.grpc_server.open(settings().grpc_host, settings().grpc_port, _certificates())
        # Longer than the parent leaves its socket open: what it still lets in is taken.
        drain_on_sigterm(self.dataplane, settings().drain_seconds + 2 * CLOSING)
        set_up_collector()

    @bentoml.on_shutdown
    async def leave(self) -> None:
        """Runs when the last HTTP request was answered."""
        if self.grpc_server:
            await self.grpc_server.close(settings().deadline_seconds)
        await self.sidecar.close()
        for runner in self.runners:
            runner.close()
        self.generation_watcher.stop()
        self.vitals.leave()

    def __metrics__(self, others: str) -> str:
        """What BentoML's `/metrics` answers: `others`, and what is computed at each scrape."""
        return others + version_info(self.status.serving())

    # Declarations for the schema and the clients. Over HTTP the door answers these paths (bunriwiki/protocols/rest/server.py).

    @bentoml.api(route="/yolo/prediction")
    async def yolo_prediction(
        self,
        image: Annotated[Path, bentoml.validators.ContentType("image/*")],
        confidence: Threshold = DEFAULT_CONFIDENCE,
        iou: Threshold = DEFAULT_IOU,
        advice: bool = False,
    ) -> Recyclables:
        """Recyclables in a photo."""
        photo = Photo(data=image.read_bytes(), confidence=confidence, iou=iou)
        [served] = await self.dataplane.detect(photo)
        return Recyclables.of(served.answer, guide if advice else None)

    @bentoml.api(route="/kcbert/prediction")
    async def kcbert_prediction(self, text: str) -> HateSpeech:
        """Hate speech in a Korean comment."""
        [served] = await self.dataplane.classify_comment(text)
        return HateSpeech.of(served.answer)

    @bentoml.api(route="/predict")
    async def predict(self, text: str) -> Sentiment:
        """Sentiment of a Korean sentence."""
        [served] = await self.dataplane.classify_sentiment(text)
        return Sentiment.of(served.answer)


def _certificates() -> Certificates | None:
    chain, key = settings().grpc_certificate, settings().grpc_key
    return Certificates(chain, key, settings().grpc_clients) if chain and key else None


# The decorator made a bentoml.Service of the class, which mypy does not see.
put_outside(Bunriwiki, door.application)
