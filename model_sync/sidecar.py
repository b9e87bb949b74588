"""The sidecar: registries, triggers and the one writer of the store, put together."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import uvicorn
from loguru import logger
from starlette.applications import Starlette

from bunriwiki.model_store.generation import GenerationError, Target
from bunriwiki.model_store.lock import StoreLockedError
from bunriwiki.model_store.writer import StoreWriter, open_writer
from bunriwiki.sandbox.support import missing
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.importing.importer import Importer
from model_sync.live.canary import CanaryRollout
from model_sync.live.monitor import RolloutMonitor
from model_sync.reconciler import Reconciler
from model_sync.registries import describe, open_sources
from model_sync.settings import SyncSettings
from model_sync.syncing.queue import SyncQueue, SyncQueues
from model_sync.syncing.report import Report
from model_sync.triggers.clock import Clock
from model_sync.triggers.mlflow_webhooks import WebhookVerifier
from model_sync.triggers.sqs import SqsTrigger

ENDING = 5.0  # seconds for threads to come to an end


def run(settings: SyncSettings) -> None:
    """Keep the store as the registries say until SIGTERM or SIGINT. Ends the process with a sentence when it cannot start."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not settings.choices:
        sys.exit(
            "No model of BUNRIWIKI_SOURCES has a registry that is configured: set BUNRIWIKI_S3_URI or MLFLOW_TRACKING_URI "
            "(docs/sync.md)"
        )
    listening = _listen(settings)
    try:
        with open_writer(settings.model_store, "model_sync") as writer:
            _run(settings, writer, listening, stopping)
    except (StoreLockedError, GenerationError, OSError, ValueError) as error:
        sys.exit(f"The sidecar cannot start: {error}")


def _run(settings: SyncSettings, writer: StoreWriter, listening: socket.socket | None, stopping: threading.Event) -> None:
    choices = settings.choices
    places = {model: describe(choice, settings) for model, choice in choices.items()}
    report = Report(writer.layout.sync, places)
    report.write()  # before anything that takes long: the service waits for what this says
    if lacks := missing():
        report.add_problem_source("imports", lambda: "; ".join(lacks))
    queues = []
    for reconciler in reconcilers(settings, writer, report, stopping):
        before_activation, monitor = _live_tests(reconciler.model, settings, writer, report, stopping)
        queues.append(SyncQueue(reconciler.model, replace(reconciler, before_activation=before_activation).sync, report))
        monitor.gone_back = partial(queues[-1].request, "poll", force=False)  # a newer version may have had to give way
        monitor.resume()
    syncs = SyncQueues(queues)
    syncs.request("start")
    work = _threads(
        {f"sync of {queue.model}": queue.run for queue in queues} | {"report": partial(report.keep_writing, stopping)}
    )
    for queue in queues:  # a clock for each: a model whose import takes long must not delay the others
        clock = Clock(syncs, settings.poll_interval_seconds, stopping, [queue.model])
        work += _threads({f"clock of {queue.model}": clock.run})
    inputs: dict[str, Callable[[], object]] = {}
    if settings.sqs_queue_url:
        sqs = _sqs_trigger(settings, syncs, stopping)
        report.add_problem_source("SQS", lambda: sqs.problem)
        inputs["sqs"] = sqs.run
    if listening:
        server = uvicorn.Server(uvicorn.Config(_app(settings, syncs, report, writer), log_config=None, lifespan="off"))
        inputs["api"] = partial(server.run, sockets=[listening])
    for thread in (*work, *_threads(inputs)):
        thread.start()
    logger.info("following {}", ", ".join(f"{model} from {place}" for model, place in places.items()))
    stopping.wait()
    _end(queues, work, report)


def _threads(tasks: Mapping[str, Callable[[], object]]) -> list[threading.Thread]:
    return [threading.Thread(target=run, name=name, daemon=True) for name, run in tasks.items()]


def _end(queues: Sequence[SyncQueue], work: Sequence[threading.Thread], report: Report) -> None:
    """Let what goes on come to an end, for a moment."""
    logger.info("ending")
    for queue in queues:
        queue.stop()
    end = time.monotonic() + ENDING
    for thread in work:
        thread.join(max(0, end - time.monotonic()))
    report.end()
    if any(thread.is_alive() for thread in work):
        logger.warning("something goes on, and is cut off: the next run takes it up")
        os._exit(0)  # within the lock: nobody else may write as long as a thread of this process could


def _live_tests(
    model: str, settings: SyncSettings, writer: StoreWriter, report: Report, stopping: threading.Event
) -> tuple[Callable[[Target], None], RolloutMonitor]:
    """What a new version has to stand before it serves, and the watch over it, which begins with the end of that."""
    limits, fallback = settings.live_limits, settings.models / model
    monitor = RolloutMonitor(
        model, writer, report, limits, seconds=settings.monitor_seconds, fallback=fallback, stopping=stopping
    )
    if settings.canary_choice is None:
        return monitor.begin, monitor
    canary = CanaryRollout(
        model, writer, report, limits, canary=settings.canary_choice, seconds=settings.canary_seconds, stopping=stopping
    )

    def before_activation(target: Target) -> None:
        canary.start_canary(target)
        monitor.begin(target)

    return before_activation, monitor


def reconcilers(settings: SyncSettings, writer: StoreWriter, report: Report, stopping: threading.Event) -> list[Reconciler]:
    """Who brings each model to what its registry names, until `stopping` is set. Raises OSError and ValueError."""
    importer = Importer(settings, writer.layout, report, stopping)
    return [
        Reconciler(model, source, writer, importer, report, settings.models / model, signatures=settings.signatures)
        for model, source in open_sources(settings).items()
    ]


def _sqs_trigger(settings: SyncSettings, syncs: SyncQueues, stopping: threading.Event) -> SqsTrigger:
    uri = urlsplit(settings.s3_uri)
    place = (uri.netloc, f"{uri.path.strip('/')}/latest_model.yaml".lstrip("/"))
    return SqsTrigger(
        syncs,
        settings.sqs_queue_url,
        lambda bucket, key: (bucket, key) == place,
        stopping,
        models=[model for model, choice in settings.choices.items() if choice.kind == "s3"],
    )


def _app(settings: SyncSettings, syncs: SyncQueues, report: Report, writer: StoreWriter) -> Starlette:
    return make_app(
        syncs,
        report.state,
        admin_tokens=settings.admin_tokens,
        verifier=WebhookVerifier(settings.webhook_secret) if settings.webhook_secret else None,
        webhook_names=[choice.place for choice in settings.choices.values() if choice.kind == "mlflow"],
        commands=Commands(writer, syncs),
    )


def _listen(settings: SyncSettings) -> socket.socket | None:
    if not settings.sync_port:
        return None
    try:
        return socket.create_server((settings.sync_host, settings.sync_port))
    except OSError as error:
        sys.exit(
            f"The sidecar cannot listen on {settings.sync_host}:{settings.sync_port}: {error.strerror}. "
            "Is another one running? BUNRIWIKI_SYNC_PORT chooses another port"
        )
