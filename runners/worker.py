"""What every runner's process has in common."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import bentoml

from artifacts.answers import Answers
from lifecycle.manager import NotAvailableError
from model_store.following import Follower
from model_store.heartbeats import Heartbeats
from model_store.layout import Layout
from runners.folder_loader import Warmable
from runners.tally import Tally
from runners.versions import Versions
from settings import settings
from telemetry import logs
from telemetry.vitals import Vitals

if TYPE_CHECKING:
    from _bentoml_sdk.service import ServiceConfig

InputT = TypeVar("InputT")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
AnswerT = TypeVar("AnswerT")

CONFIG: ServiceConfig = {
    "workers": settings().runner_workers,
    # One batch at a time: a second one would only compete for the same cores.
    "threads": 1,
    # BentoML's proxy closes its session under running calls every 100 requests or 300 s unless told not to.
    "runner_connection": {"max_requests": 2**31, "max_age": 1e9},
    "traffic": {"timeout": settings().deadline},
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


class Servable(Warmable, Protocol[InputT_contra, AnswerT]):
    """A version of a model."""

    def predict(self, batch: Sequence[InputT_contra], /) -> Answers[AnswerT]: ...


class Runner(Generic[InputT, AnswerT]):
    """Base of the runners' BentoML services. It answers when a version serves."""

    def __init__(self, model: str, open_version: Callable[[Path], Servable[InputT, AnswerT]]) -> None:
        logs.configure(settings().log_level)
        self._model = model
        layout = Layout(settings().model_store)
        follower = Follower(layout, {model: settings().models / model})
        self._tally = Tally()
        vitals = Vitals(model, Heartbeats(layout.run), settings().vital_limits, self._tally.figures)
        self._versions = Versions(model, open_version, follower, vitals)
        self._versions.start()

    def answer(self, batch: Sequence[InputT], version: str) -> Answers[AnswerT]:
        """Answer a batch from exactly `version`; with no results when that is not in memory."""
        try:
            with self._versions.handle(version) as handle:
                return self._tally.count(version, batch, handle.servable.predict)
        except NotAvailableError:
            return Answers[AnswerT](model=self._model, version=self._versions.serving, results=())

    @bentoml.on_startup
    def leave_interrupts_to_the_parent(self) -> None:
        """Ctrl-C reaches every process of the terminal at once. A runner waits for the parent's SIGTERM, which comes after the
        gateway has ended (see `supervisor.py`), so that no batch loses its runner."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    @bentoml.on_shutdown
    def leave(self) -> None:
        """No new version waits for this worker."""
        self._versions.stop()
