"""The sidecar process: connects the registries and the triggers with the single writer of the store."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from loguru import logger
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.model_store.generation import GenerationError, Target
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.writer import StoreWriter, open_writer
from bunriwiki.sandbox.support import missing
from bunriwiki.telemetry.tracing import open_tracing
from bunriwiki.web import open_files
from bunriwiki.web.bounded_http import bounded_http
from bunriwiki.web.clients import Clients
from bunriwiki.web.connections import ConnectionLimits
from bunriwiki.web.tokens import TokenGate
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.api.feedback import FeedbackRoutes
from model_sync.importing.cancellation import Cancellation
from model_sync.importing.importer import MAX_IMPORTS, Importer
from model_sync.live.canary import CanaryRollout
from model_sync.live.draining import time_drain
from model_sync.live.monitor import RolloutMonitor
from model_sync.quality.feedback import Feedback
from model_sync.quality.quality import Quality
from model_sync.reconciler import Reconciler
from model_sync.registries import describe, open_sources
from model_sync.s3_client import S3Location
from model_sync.settings import SyncSettings
from model_sync.sources.latest_model import LATEST_MODEL
from model_sync.stop_event import StopEvent
from model_sync.syncing.queue import SyncQueue, SyncQueues
from model_sync.syncing.report import Report
from model_sync.telemetry.import_traces import ImportTraces
from model_sync.telemetry.store import StoreCollector
from model_sync.triggers.clock import Clock
from model_sync.triggers.mlflow_webhooks import WebhookVerifier
from model_sync.triggers.sqs import SqsTrigger

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

STOP_SECONDS = 5.0  # for the threads to end
HTTP_SHARE = 0.5  # of the files that this process may have open, for connections


def run(settings: SyncSettings) -> None:
    """Keep the store in sync with the registries until SIGTERM or SIGINT. Exits with a message if it cannot start."""
    stopping = StopEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not settings.choices:
        sys.exit(
            "No registry is configured for any model of BUNRIWIKI_SOURCES: set BUNRIWIKI_S3_URI or MLFLOW_TRACKING_URI "
            "(docs/sync.md)"
        )
    open_files.raise_limit()
    listening = _listen(settings)
    try:
        with open_writer(settings.model_store, "model_sync") as writer:
            _run(settings, writer, listening, stopping)
    except (StoreLockedError, GenerationError, DamagedArtifactError, OSError, ValueError, sqlite3.Error) as error:
        sys.exit(f"The sidecar cannot start: {error}")


def _run(settings: SyncSettings, writer: StoreWriter, listening: socket.socket | None, stopping: StopEvent) -> None:
    choices = settings.choices
    places = {model: describe(choice, settings) for model, choice in choices.items()}
    tracing = open_tracing("sidecar")
    report = Report(writer.layout.sync, places, ImportTraces(tracing))
    report.write()  # first of all: the start of the service waits for this file
    if lacks := missing():
        report.add_problem_source("imports", lambda: "; ".join(lacks))
    quality = settings.quality(writer.layout)
    queues = []
    cancellations = {}
    for reconciler in reconcilers(settings, writer, report, stopping):
        model = reconciler.model
        cancellations[model] = reconciler.cancellation
        before_activation, monitor = _rollout(model, settings, writer, report, stopping, feedback=quality.feedback)
        after_activation = partial(time_drain, writer, report, model, stopping)
        rollout = replace(reconciler, before_activation=before_activation, after_activation=after_activation)
        queues.append(SyncQueue(model, rollout.sync, report))
        report.metrics.queue_depth.labels(model).set_function(queues[-1].depth)
        monitor.on_rollback = partial(queues[-1].request, "poll", force=False)  # a newer version may be waiting
        monitor.resume()
    syncs = SyncQueues(queues)
    syncs.request("start")
    work = _threads(
        {f"sync of {queue.model}": queue.run for queue in queues}
        | {"report": partial(report.keep_writing, stopping), "quality": partial(quality.run, stopping)}
    )
    for queue in queues:  # a clock per model: a long import must not delay the syncs of other models
        clock = Clock(syncs, settings.poll_interval_seconds, stopping, [queue.model])
        work += _threads({f"clock of {queue.model}": clock.run})
    inputs: dict[str, Callable[[], object]] = {}
    if settings.sqs_queue_url:
        sqs = _sqs_trigger(settings, syncs, stopping)
        report.add_problem_source("SQS", lambda: sqs.problem)
        inputs["sqs"] = sqs.run
    if listening:
        metrics = _registry(settings, report, writer, quality)
        commands = Commands(writer, syncs, cancellations)
        app = _app(settings, syncs, report, commands=commands, metrics=metrics, quality=quality)
        server = uvicorn.Server(_server_config(app, settings))
        inputs["api"] = partial(server.run, sockets=[listening])
    for thread in (*work, *_threads(inputs)):
        thread.start()
    logger.info("syncing {}", ", ".join(f"{model} from {place}" for model, place in places.items()))
    stopping.wait()
    _end(queues, work, report, tracing)


def _threads(tasks: Mapping[str, Callable[[], object]]) -> list[threading.Thread]:
    return [threading.Thread(target=run, name=name, daemon=True) for name, run in tasks.items()]


def _end(queues: Sequence[SyncQueue], work: Sequence[threading.Thread], report: Report, tracing: Tracing | None) -> None:
    """Stop the queues, and wait a few seconds for the threads in `work` to end."""
    logger.info("stopping")
    for queue in queues:
        queue.stop()
    end = time.monotonic() + STOP_SECONDS
    for thread in work:
        thread.join(max(0, end - time.monotonic()))
    report.end()
    if tracing is not None:
        tracing.close()
    if any(thread.is_alive() for thread in work):
        logger.warning("a sync is still running and is aborted; the next start resumes it")
        os._exit(0)  # while the lock is held: no other process may write as long as a thread of this process could


def _rollout(
    model: str,
    settings: SyncSettings,
    writer: StoreWriter,
    report: Report,
    stopping: threading.Event,
    *,
    feedback: Feedback,
) -> tuple[Callable[[Target], None], RolloutMonitor]:
    """What to call before a version is activated (it runs the canary, and starts the monitor), and the monitor."""
    monitor = RolloutMonitor(
        model,
        writer,
        report,
        settings.live_limits,
        seconds=settings.monitor_seconds,
        stopping=stopping,
        ratings=partial(feedback.rated, model) if settings.feedback_keys else None,
    )
    if settings.canary_choice is None:
        return monitor.begin, monitor
    canary = CanaryRollout(
        model,
        writer,
        report,
        settings.live_limits,
        canary=settings.canary_choice,
        seconds=settings.canary_seconds,
        stopping=stopping,
    )

    def before_activation(target: Target) -> None:
        began = time.monotonic()
        canary.start_canary(target)
        report.took(model, "canary", time.monotonic() - began)
        monitor.begin(target)

    return before_activation, monitor


def reconcilers(settings: SyncSettings, writer: StoreWriter, report: Report, stopping: StopEvent) -> list[Reconciler]:
    """A reconciler for each model with a registry. `stopping` cancels their imports. Raises OSError and ValueError."""
    slots = threading.Semaphore(MAX_IMPORTS)
    made = []
    for model, source in open_sources(settings).items():
        cancellation = Cancellation(stopping)
        importer = Importer(settings, writer.layout, report, cancellation.stop, slots)
        reconciler = Reconciler(
            model, source, writer, importer, report, settings.models / model, cancellation, signatures=settings.signatures
        )
        made.append(reconciler)
    return made


def _sqs_trigger(settings: SyncSettings, syncs: SyncQueues, stopping: threading.Event) -> SqsTrigger:
    location = S3Location.parse(settings.s3_uri)
    watched = (location.bucket, location.key(LATEST_MODEL))
    return SqsTrigger(
        syncs,
        settings.sqs_queue_url,
        lambda bucket, key: (bucket, key) == watched,
        stopping,
        models=[model for model, choice in settings.choices.items() if choice.kind == "s3"],
    )


def _app(
    settings: SyncSettings,
    syncs: SyncQueues,
    report: Report,
    *,
    commands: Commands,
    metrics: CollectorRegistry,
    quality: Quality,
) -> Starlette:
    return make_app(
        syncs,
        report.state,
        admin_tokens=settings.admin_tokens,
        verifier=WebhookVerifier(settings.webhook_secret) if settings.webhook_secret else None,
        webhook_names=[choice.place for choice in settings.choices.values() if choice.kind == "mlflow"],
        commands=commands,
        metrics=metrics,
        feedback=FeedbackRoutes(quality, admins=TokenGate(settings.admin_tokens), raters=TokenGate(settings.feedback_tokens)),
        clients=Clients(settings.proxies),
    )


def _server_config(app: Starlette, settings: SyncSettings) -> uvicorn.Config:
    """With TLS if the files for it are set."""
    certificate, key = settings.sync_certificate, settings.sync_key
    http = bounded_http(ConnectionLimits(open_files.max_connections(HTTP_SHARE)))
    if certificate is None:
        return uvicorn.Config(app, http=http, log_config=None, lifespan="off")
    if key is None:  # no fallback to tokens in clear
        sys.exit("BUNRIWIKI_SYNC_CERTIFICATE requires BUNRIWIKI_SYNC_KEY, for the sidecar")
    return uvicorn.Config(app, http=http, log_config=None, lifespan="off", ssl_certfile=certificate, ssl_keyfile=key)


def _registry(settings: SyncSettings, report: Report, writer: StoreWriter, quality: Quality) -> CollectorRegistry:
    """All that `/metrics` returns: what is counted as it happens, and the collectors that are asked at each scrape."""
    registry = report.metrics.registry
    registry.register(StoreCollector(writer.layout, settings.choices))
    registry.register(quality.collector)
    return registry


def _listen(settings: SyncSettings) -> socket.socket | None:
    if not settings.sync_port:
        return None
    try:
        return socket.create_server((settings.sync_host, settings.sync_port))
    except OSError as error:
        sys.exit(
            f"The sidecar cannot listen on {settings.sync_host}:{settings.sync_port}: {error.strerror}. "
            "Stop the process that uses the port, or set BUNRIWIKI_SYNC_PORT to another one"
        )
