"""The Bento: its service, its routes and its runners."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import bentoml
import psutil
from pydantic import Field

from bunriwiki import __version__
from bunriwiki.artifacts.inputs import DEFAULT_CONFIDENCE, DEFAULT_IOU, Photo
from bunriwiki.artifacts.models import KCBERT, SENTIMENT, SPECS, YOLO
from bunriwiki.disposal.advice import Guide
from bunriwiki.ipc.client import RunnerClient
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import GATEWAY_ROLE, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.outer_app import put_outside
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.grpc.server import Certificates, GrpcServer
from bunriwiki.protocols.handlers.dataplane import DataPlane, Limits, Model
from bunriwiki.protocols.handlers.draining import drain_on_sigterm
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.handlers.startup import FirstSync
from bunriwiki.protocols.handlers.status import Status
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.protocols.rest.app import RestApp
from bunriwiki.protocols.rest.health_listener import HealthListener
from bunriwiki.protocols.rest.schemas import HateSpeech, Recyclables, Sentiment
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.settings import settings
from bunriwiki.supervisor import CLOSING_SECONDS, SOCKETS, SUPERVISOR, supervise
from bunriwiki.telemetry import error_tracking, logs
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.collector import set_up_collector
from bunriwiki.telemetry.metrics import FOLDER
from bunriwiki.telemetry.metrics.gauges import keep_publishing, publish
from bunriwiki.telemetry.metrics.loads import begin_with_models
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.telemetry.samples import Sampler
from bunriwiki.telemetry.tracing import open_tracing
from bunriwiki.telemetry.vitals import Vitals
from bunriwiki.telemetry.worker_number import worker_number
from bunriwiki.web.bodies import ReadLimits
from bunriwiki.web.bounded_http import bounded_http
from bunriwiki.web.clients import Clients
from bunriwiki.web.connections import ConnectionLimits
from bunriwiki.web.open_files import max_connections
from bunriwiki.web.tickets import ticket_issuer
from bunriwiki.web.tls import trusting
from bunriwiki.web.tokens import TokenGate
from runners.worker import runner_service

guide = Guide.read()  # at import, so that an invalid guide stops the start
rest_app = RestApp()

HTTP_SHARE = 0.5  # of the files that a gateway worker may have open, for connections

Threshold = Annotated[float, Field(ge=0, le=1)]


@bentoml.service(
    name="bunriwiki",
    workers=settings().gateway_workers,
    logging={"access": {"enabled": False}},
    http={"port": settings().port},
    envs=[
        # No request passes through BentoML's instrumentation (bunriwiki/outer_app.py); its exporters must not start either.
        {"name": "OTEL_SDK_DISABLED", "value": "true"},
        # What a worker prints before it loads this module does not have the form of bunriwiki/telemetry/logs.py.
        {"name": "BENTOML_QUIET", "value": "true"},
        # Otherwise glibc keeps the memory of decoded photos in an arena per thread.
        {"name": "MALLOC_ARENA_MAX", "value": "2"},
        # Otherwise glibc puts large bodies that grow among others into its heap once it has freed one, where they leave holes.
        # With the first threshold set, the second one is 128 KB, unless it is set, too: then the heap shrinks and grows often.
        {"name": "MALLOC_MMAP_THRESHOLD_", "value": str(512 * 2**10)},
        {"name": "MALLOC_TRIM_THRESHOLD_", "value": str(16 * 2**20)},
    ],
)
class Bunriwiki:
    """Recyclables in photos, hate speech and sentiment in Korean text."""

    # BentoML starts the workers of these services. Batches reach them over Unix sockets (bunriwiki/ipc/).
    yolo = bentoml.depends(runner_service(YOLO))
    kcbert = bentoml.depends(runner_service(KCBERT))
    sentiment = bentoml.depends(runner_service(SENTIMENT))

    @bentoml.on_deployment
    @staticmethod
    def supervise_workers() -> None:
        """Runs once, in the parent of all workers."""
        logs.configure(settings().logs(SUPERVISOR))
        error_tracking.start(settings().sentry_dsn, SUPERVISOR)
        supervise()

    def __init__(self) -> None:
        logs.configure(settings().logs(GATEWAY_ROLE))
        error_tracking.start(settings().sentry_dsn, GATEWAY_ROLE)
        layout = Layout(settings().model_store)
        self.generation_watcher = GenerationWatcher(layout, {model: settings().models / model for model in SPECS})
        first_sync = FirstSync(
            layout.sync,
            settings().start_wait_seconds,
            expected=settings().syncs,
            started=psutil.Process(os.getppid()).create_time(),
        )
        self.status = Status(layout, self.generation_watcher, settings().runner_workers, first_sync, settings().choices)
        self.grpc_server: GrpcServer | None = None
        self.comparisons = Comparisons()
        self.vitals = Vitals(
            GATEWAY_ROLE, Heartbeats(layout.run), settings().vital_limits, self.comparisons.figures, worker_number()
        )

    @bentoml.on_startup
    async def start_servers(self) -> None:
        """Runs in each gateway worker."""
        limits = Limits(
            settings().max_queue_size,
            settings().runner_workers,
            settings().deadline_seconds,
            max_queue_cost=settings().max_queue_megapixels * 1_000_000,  # texts cost 1 each
        )
        sockets = Path(os.environ[SOCKETS])
        self.runners: dict[str, RunnerClient[Any]] = {
            name: RunnerClient(sockets / name, spec.answer) for name, spec in SPECS.items()
        }
        self.tracing = open_tracing(GATEWAY_ROLE)
        models = [
            Model(
                spec,
                self.runners[name],
                Route(name, self.generation_watcher),
                limits,
                comparisons=self.comparisons,
                tracing=self.tracing,
            )
            for name, spec in SPECS.items()
        ]
        self.dataplane = DataPlane(models, self.status)
        gate = TokenGate(settings().admin_tokens)
        self.sidecar = Sidecar(
            settings().sidecar_url,
            gate,
            settings().deadline_seconds,
            verify=trusting(settings().sync_certificate),
        )
        feedback = _feedback()
        handlers = OpenInference(self.dataplane, self.generation_watcher, self.sidecar, feedback=feedback)
        memory = Memory(settings().large_body_memory_mb, settings().small_body_memory_mb)
        clients = Clients(settings().proxies)
        scrape = Scrape(
            Path(os.environ[FOLDER]).parent,
            self.status,
            expected={GATEWAY_ROLE: settings().gateway_workers, **dict.fromkeys(SPECS, settings().runner_workers)},
            service_version=__version__,
        )
        rest_app.server = RestServer(
            dataplane=self.dataplane,
            open_inference=handlers,
            sidecar=self.sidecar,
            gate=gate,
            guide=guide,
            memory=memory,
            read_limits=ReadLimits(
                settings().deadline_seconds, settings().body_min_bytes_per_second, settings().body_grace_seconds
            ),
            log_requests=settings().log_requests,
            scrape=scrape,
            bento_metrics=BentoMetrics(),
            feedback=feedback,
            tracing=self.tracing,
            clients=clients,
        )
        begin_with_models(SPECS)
        self.publishing = asyncio.create_task(keep_publishing())
        self.generation_watcher.start(on_change=lambda: None)  # each batch reads its state
        Thread(target=self.vitals.keep_beating, name="heartbeat", daemon=True).start()
        if settings().grpc_port:
            self.grpc_server = GrpcServer(handlers, memory, self.tracing, clients, settings().deadline_seconds)
            await self.grpc_server.open(settings().grpc_host, settings().grpc_port, _certificates())
        self.health_listener = HealthListener(rest_app)
        if settings().health_port:
            await self.health_listener.open(settings().metrics_host, settings().health_port)
        # Longer than the parent keeps its socket open, so that the workers accept every connection that it lets in.
        drain_on_sigterm(self.dataplane, settings().drain_seconds + 2 * CLOSING_SECONDS)
        set_up_collector()

    @bentoml.on_shutdown
    async def leave(self) -> None:
        """Runs after the last HTTP request was answered."""
        if self.grpc_server:
            await self.grpc_server.close(settings().deadline_seconds)
        await self.health_listener.close()
        await self.sidecar.close()
        for runner in self.runners.values():
            runner.close()
        if self.tracing:
            await asyncio.to_thread(self.tracing.close)
        self.publishing.cancel()
        publish()
        self.generation_watcher.stop()
        self.vitals.leave()

    # Declarations for the schema and the clients: over HTTP the REST server answers these paths (bunriwiki/protocols/rest/).

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
        [served] = await self.dataplane.infer(YOLO, [photo])
        return Recyclables.of(served.answer, guide if advice else None)

    @bentoml.api(route="/kcbert/prediction")
    async def kcbert_prediction(self, text: str) -> HateSpeech:
        """Hate speech in a Korean comment."""
        [served] = await self.dataplane.infer(KCBERT, [text])
        return HateSpeech.of(served.answer)

    @bentoml.api(route="/predict")
    async def predict(self, text: str) -> Sentiment:
        """Sentiment of a Korean sentence."""
        [served] = await self.dataplane.infer(SENTIMENT, [text])
        return Sentiment.of(served.answer)


def _feedback() -> Feedback:
    """Tickets where a key is set and a sidecar may take them back, samples where a folder is set."""
    issue = sampler = None
    if settings().feedback_keys and settings().sidecar_url:
        issue = ticket_issuer(settings().feedback_keys[0], settings().feedback_ticket_seconds)
    if (samples := settings().samples) and settings().samples_share:
        folder = SampleFolder(samples, settings().samples_days, settings().samples_max_mb * 2**20)
        sampler = Sampler(folder, settings().samples_share, inputs=settings().samples_inputs == "on")
        sampler.start()
    return Feedback(issue, sampler)


def _certificates() -> Certificates | None:
    chain, key = settings().grpc_certificate, settings().grpc_key
    return Certificates(chain, key, settings().grpc_clients) if chain and key else None


# To mypy, Bunriwiki is a class; the decorator made it a bentoml.Service.
put_outside(Bunriwiki, rest_app.wrap, lambda: bounded_http(ConnectionLimits(max_connections(HTTP_SHARE))))
