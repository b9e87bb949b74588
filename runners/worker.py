"""What every runner's process has in common."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import bentoml

from bunriwiki.artifacts.answers import Answers
from bunriwiki.ipc.client import READY
from bunriwiki.ipc.server import IpcServer
from bunriwiki.lifecycle.manager import NotAvailableError
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.outer_app import closed_to_requests, put_outside
from bunriwiki.sandbox.descriptors import IPC_FD
from bunriwiki.settings import settings
from bunriwiki.telemetry import logs
from bunriwiki.telemetry.collector import set_up_collector
from bunriwiki.telemetry.vitals import Vitals
from runners.folder_loader import Warmable
from runners.serving_statistics import ServingStatistics
from runners.versions import Versions

if TYPE_CHECKING:
    from _bentoml_sdk import Service
    from _bentoml_sdk.service import ServiceConfig

InputT = TypeVar("InputT")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
AnswerT = TypeVar("AnswerT")

CONFIG: ServiceConfig = {
    "workers": settings().runner_workers,
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


class Servable(Warmable, Protocol[InputT_contra, AnswerT]):
    """A version of a model."""

    def predict(self, batch: Sequence[InputT_contra], /) -> Answers[AnswerT]: ...


class Runner(Generic[InputT, AnswerT]):
    """Base of the runners' BentoML services. When a version serves, it answers batches of `inputs` that come over the hop."""

    def __init__(self, model: str, inputs: type[InputT], open_version: Callable[[Path], Servable[InputT, AnswerT]]) -> None:
        logs.configure(settings().log_level)
        if IPC_FD not in os.environ:
            raise RuntimeError(
                f"the runner of {model} was not started by `bunriwiki/supervisor.py`: serve without --development"
            )
        self._model = model
        layout = Layout(settings().model_store)
        generation_watcher = GenerationWatcher(layout, {model: settings().models / model})
        self._statistics = ServingStatistics()
        vitals = Vitals(model, Heartbeats(layout.run), settings().vital_limits, self._statistics.figures)
        self._versions = Versions(model, open_version, generation_watcher, vitals)
        self._versions.start()
        listening = socket.socket(fileno=int(os.environ[IPC_FD]))
        self._sign = Path(listening.getsockname()).with_suffix(READY)
        self._call_runner = IpcServer(model, listening, inputs, self.answer, settings().deadline_seconds)

    def answer(self, batch: Sequence[InputT], version: str) -> Answers[AnswerT]:
        """Answer a batch from exactly `version`; with no results when that is not in memory."""
        try:
            with self._versions.handle(version) as handle:
                return self._statistics.count(version, batch, handle.servable.predict)
        except NotAvailableError:
            return Answers(self._model, self._versions.serving, ())

    @bentoml.on_startup
    def take_batches(self) -> None:
        """From now on the gateway finds this worker."""
        # Ctrl-C reaches every process of the terminal at once. A runner waits for the parent's SIGTERM, which comes after the
        # gateway has ended (see `bunriwiki/supervisor.py`), so that no batch loses its runner.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_up_collector()
        self._call_runner.start()
        self._sign.write_bytes(b"")

    @bentoml.on_shutdown
    def leave(self) -> None:
        """No new version waits for this worker, and no new batch comes to it; what it is answering, it answers."""
        self._sign.unlink(missing_ok=True)
        self._versions.stop()
        self._call_runner.close(settings().deadline_seconds)


def runner(name: str) -> Callable[[type[Runner[InputT, AnswerT]]], Service[Runner[InputT, AnswerT]]]:
    """Decorates the class of a runner: it becomes the BentoML service `name`, which answers over the hop only."""

    def decorate(inner: type[Runner[InputT, AnswerT]]) -> Service[Runner[InputT, AnswerT]]:
        service = bentoml.service(name=name, **CONFIG)(inner)
        put_outside(service, closed_to_requests)
        return service

    return decorate
