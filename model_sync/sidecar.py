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
from model_sync.live.canary import CanaryTrial
from model_sync.live.monitor import Watch
from model_sync.reconciler import ModelFollower
from model_sync.registries import describe, open_sources
from model_sync.settings import SyncSettings
from model_sync.syncing.queue import Line, Lines
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
        report.watch("imports", lambda: "; ".join(lacks))
    lines = []
    for follower in followers(settings, writer, report, stopping):
        before_flip, watch = _live_tests(follower.model, settings, writer, report, stopping)
        lines.append(Line(follower.model, replace(follower, before_flip=before_flip).look, report))
        watch.gone_back = partial(lines[-1].ask, "poll", force=False)  # a newer version may have had to give way
        watch.resume()
    looks = Lines(lines)
    looks.look("start")
    work = _threads({f"follow {line.model}": line.run for line in lines} | {"report": partial(report.keep_writing, stopping)})
    for line in lines:  # each its own: a model whose import takes long must not keep the others waiting
        work += _threads({f"clock of {line.model}": Clock(looks, settings.poll_interval, stopping, [line.model]).run})
    doors: dict[str, Callable[[], object]] = {}
    if settings.sqs_queue_url:
        queue = _queue(settings, looks, stopping)
        report.watch("SQS", lambda: queue.problem)
        doors["sqs"] = queue.run
    if listening:
        server = uvicorn.Server(uvicorn.Config(_app(settings, looks, report, writer), log_config=None, lifespan="off"))
        doors["api"] = partial(server.run, sockets=[listening])
    for thread in (*work, *_threads(doors)):
        thread.start()
    logger.info("following {}", ", ".join(f"{model} from {place}" for model, place in places.items()))
    stopping.wait()
    _end(lines, work, report)


def _threads(tasks: Mapping[str, Callable[[], object]]) -> list[threading.Thread]:
    return [threading.Thread(target=run, name=name, daemon=True) for name, run in tasks.items()]


def _end(lines: Sequence[Line], work: Sequence[threading.Thread], report: Report) -> None:
    """Let what goes on come to an end, for a moment."""
    logger.info("ending")
    for line in lines:
        line.stop()
    end = time.monotonic() + ENDING
    for thread in work:
        thread.join(max(0, end - time.monotonic()))
    report.end()
    if any(thread.is_alive() for thread in work):
        logger.warning("something goes on, and is cut off: the next run takes it up")
        os._exit(0)  # within the lock: nobody else may write as long as a thread of this process could


def _live_tests(
    model: str, settings: SyncSettings, writer: StoreWriter, report: Report, stopping: threading.Event
) -> tuple[Callable[[Target], None], Watch]:
    """What a new version has to stand before it serves, and the watch over it, which begins with the end of that."""
    limits, fallback = settings.live_limits, settings.models / model
    watch = Watch(model, writer, report, limits, seconds=settings.watch, fallback=fallback, stopping=stopping)
    if settings.canary_choice is None:
        return watch.begin, watch
    canary = CanaryTrial(
        model, writer, report, limits, canary=settings.canary_choice, seconds=settings.canary_seconds, stopping=stopping
    )

    def before_flip(target: Target) -> None:
        canary.try_on(target)
        watch.begin(target)

    return before_flip, watch


def followers(settings: SyncSettings, writer: StoreWriter, report: Report, stopping: threading.Event) -> list[ModelFollower]:
    """Who brings each model to what its registry names, until `stopping` is set. Raises OSError and ValueError."""
    importer = Importer(settings, writer.layout, report, stopping)
    return [
        ModelFollower(model, source, writer, importer, report, settings.models / model, signatures=settings.signatures)
        for model, source in open_sources(settings).items()
    ]


def _queue(settings: SyncSettings, looks: Lines, stopping: threading.Event) -> SqsTrigger:
    uri = urlsplit(settings.s3_uri)
    place = (uri.netloc, f"{uri.path.strip('/')}/latest_model.yaml".lstrip("/"))
    return SqsTrigger(
        looks,
        settings.sqs_queue_url,
        lambda bucket, key: (bucket, key) == place,
        stopping,
        models=[model for model, choice in settings.choices.items() if choice.kind == "s3"],
    )


def _app(settings: SyncSettings, looks: Lines, report: Report, writer: StoreWriter) -> Starlette:
    return make_app(
        looks,
        report.state,
        admin_tokens=settings.admin_tokens,
        verifier=WebhookVerifier(settings.webhook_secret) if settings.webhook_secret else None,
        webhook_names=[choice.place for choice in settings.choices.values() if choice.kind == "mlflow"],
        commands=Commands(writer, looks),
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
