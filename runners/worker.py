"""The BentoML services that run the models, each in worker processes of its own."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import bentoml

from bunriwiki.artifacts.answers import Answers
from bunriwiki.artifacts.models import ModelSpec
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
from bunriwiki.telemetry.worker_number import worker_number
from runners.servable import servable_class
from runners.serving_statistics import ServingStatistics
from runners.versions import Versions

if TYPE_CHECKING:
    from _bentoml_sdk import Service
    from _bentoml_sdk.service import ServiceConfig

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")

CONFIG: ServiceConfig = {
    "workers": settings().runner_workers,
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


class Runner(Generic[InputT, AnswerT]):
    """A worker of one model: keeps versions in memory, and answers the batches that come over its Unix socket.

    The constructor returns when a version serves. Raises NoVersionError if none can be loaded.
    """

    def __init__(self, spec: ModelSpec[InputT, AnswerT]) -> None:
        logs.configure(settings().logs(spec.name))
        if IPC_FD not in os.environ:
            raise RuntimeError(
                f"the runner of {spec.name} was not started by `bunriwiki/supervisor.py`: serve without --development"
            )
        self._model = spec.name
        layout = Layout(settings().model_store)
        generation_watcher = GenerationWatcher(layout, {spec.name: settings().models / spec.name})
        self._statistics = ServingStatistics()
        figures = self._statistics.figures
        vitals = Vitals(spec.name, Heartbeats(layout.run), settings().vital_limits, figures, worker_number())
        self._versions = Versions(spec.name, servable_class(spec), generation_watcher, vitals)
        self._versions.start()
        listening = socket.socket(fileno=int(os.environ[IPC_FD]))
        self._ready_file = Path(listening.getsockname()).with_suffix(READY)
        self._ipc_server = IpcServer(spec.name, listening, spec.input, self.answer, settings().deadline_seconds)

    def answer(self, batch: Sequence[InputT], version: str) -> Answers[AnswerT]:
        """Answer a batch with exactly `version`; with no results if it is not in memory."""
        try:
            with self._versions.handle(version) as handle:
                return self._statistics.count(version, batch, handle.servable.predict)
        except NotAvailableError:
            return Answers(self._model, self._versions.serving, ())

    @bentoml.on_startup
    def take_batches(self) -> None:
        """From now on the gateway sends batches to this worker."""
        # Ctrl-C reaches every process of the terminal at once. A runner waits for the parent's SIGTERM, which comes after the
        # gateway has ended (`bunriwiki/supervisor.py`), so that no batch loses its runner.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_up_collector()
        self._ipc_server.start()
        self._ready_file.write_bytes(b"")

    @bentoml.on_shutdown
    def leave(self) -> None:
        """Take no new batches, stop delaying the promotion of versions, and answer the batch under way."""
        self._ready_file.unlink(missing_ok=True)
        self._versions.stop()
        self._ipc_server.close(settings().deadline_seconds)


def runner_service(spec: ModelSpec[InputT, AnswerT]) -> Service[Runner[InputT, AnswerT]]:
    """The BentoML service of a model's workers. Its HTTP port answers no requests."""

    class ModelRunner(Runner[InputT, AnswerT]):
        def __init__(self) -> None:
            super().__init__(spec)

    service = bentoml.service(name=spec.name, **CONFIG)(ModelRunner)
    put_outside(service, closed_to_requests)
    return service
