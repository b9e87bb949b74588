"""The state of the sidecar: collected here, served by `GET /state`, and written to the store's `sync.json`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger

from bunriwiki.model_store.sync_state import EVERY, ModelSync, SyncState
from model_sync.syncing.requests import Outcome
from model_sync.telemetry.import_traces import ImportTraces
from model_sync.telemetry.metrics import SyncMetrics


class Report:
    """Writes every change to `path`, and counts in `metrics`, and records imports in `traces`. Safe to use from many threads.

    `sources` describes the registry of each model; `labels` are the names of the registries in the metrics, if those differ.
    """

    def __init__(
        self,
        path: Path,
        sources: Mapping[str, str],
        traces: ImportTraces | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self.metrics = SyncMetrics(sources)
        self._traces = traces or ImportTraces()
        self._labels = labels or sources
        self._since = datetime.now(UTC)
        self._models = {model: ModelSync(source=source) for model, source in sources.items()}
        self._problem_sources: dict[str, Callable[[], str | None]] = {}
        self._changing = threading.Lock()
        self._ended = False
        self._write_failed = False

    def state(self) -> SyncState:
        """A snapshot of the whole state."""
        with self._changing:
            problems = [f"{name}: {problem}" for name, read in self._problem_sources.items() if (problem := read())]
            return SyncState(since=self._since, at=time.time(), models=dict(self._models), problems=problems, ended=self._ended)

    def seconds(self, model: str) -> dict[str, float]:
        """The duration of each phase of the current or last import, in seconds."""
        return dict(self._models[model].seconds)

    def begin(self, model: str) -> None:
        """Start the report of a new import: durations and findings of the last import are cleared."""
        self._traces.begin(model)
        self._update(model, seconds={}, findings=[])

    @contextmanager
    def phase(self, model: str, name: str) -> Iterator[None]:
        """Report `name` as the current phase within the context, and its duration afterwards."""
        started = time.monotonic()
        self._update(model, phase=name, phase_since=datetime.now(UTC), phase_share=None)
        try:
            yield
        finally:
            self.took(model, name, time.monotonic() - started)
            self._update(model, phase=None, phase_since=None, phase_share=None)

    def took(self, model: str, name: str, seconds: float) -> None:
        """Record the duration of a phase, or of a part of a phase, in seconds."""
        self._update(model, seconds={**self._models[model].seconds, name: round(seconds, 2)})
        self.metrics.took(model, name, seconds)
        self._traces.took(model, name, seconds)
        logger.info("{}: {} took {:.1f} s", model, name, seconds)

    def registry_read(self, model: str, *, succeeded: bool) -> None:
        """Count whether the registry of `model` could be read."""
        self.metrics.registry_read(model, self._labels[model], succeeded=succeeded)

    def share(self, model: str, share: float) -> None:
        """Set the progress of the current phase, 0..1. Steps below 0.01 are dropped."""
        if share - (self._models[model].phase_share or 0) >= 0.01:
            self._update(model, phase_share=round(share, 3))

    def found(self, model: str, sentence: str) -> None:
        """Add the finding of a gate."""
        self._update(model, findings=[*self._models[model].findings, sentence])

    def rollout(self, model: str, sentence: str) -> None:
        """Set the state of the rollout monitor or the canary."""
        self._update(model, rollout=sentence)

    def ended(self, outcome: Outcome) -> None:
        """Record the outcome of a sync; it is logged if it differs from the last outcome of the model."""
        before = self._models[outcome.model]
        self._update(
            outcome.model,
            synced_at=datetime.now(UTC),
            status=outcome.status,
            version=outcome.version,
            reason=outcome.reason,
        )
        if (before.status, before.version, before.reason) != (outcome.status, outcome.version, outcome.reason):
            level = "WARNING" if outcome.status in ("rejected", "unreachable", "failed") else "INFO"
            logger.log(
                level, "{} {}: {}{}", outcome.model, outcome.version or "", outcome.status,
                f": {outcome.reason}" if outcome.reason else "",
            )  # fmt: skip
        self._traces.end(outcome.model, outcome.status, outcome.version)

    def add_problem_source(self, name: str, read: Callable[[], str | None]) -> None:
        """Add `name` to the state's problems whenever `read` returns a sentence; None means that there is no problem."""
        self._problem_sources[name] = read

    def keep_writing(self, stopping: threading.Event) -> None:
        """Write the state periodically, as a sign of life, until `stopping` is set. Blocks."""
        while not stopping.wait(EVERY):
            self.write()

    def end(self) -> None:
        """Report that the sidecar shuts down in order."""
        self._ended = True
        self.write()

    def _update(self, model: str, **fields: Any) -> None:
        with self._changing:
            self._models[model] = self._models[model].model_copy(update=fields)
        self.write()

    def write(self) -> None:
        """Write the state to the file. An OSError is logged once until a write succeeds again, and not raised."""
        try:
            self.state().write(self._path)
        except OSError as error:  # a full disk must not prevent a rejection or a promotion
            if not self._write_failed:
                logger.error("cannot write the state of the sidecar: {}", error)
            self._write_failed = True
        else:
            self._write_failed = False
