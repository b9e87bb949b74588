"""An import as one trace: a span for it, and a child for each phase that the report times."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bunriwiki.ipc.trace import current_trace

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from bunriwiki.telemetry.spans import Tracing

FAILED = ("rejected", "failed", "unreachable")  # statuses of a sync that make its import an error


@dataclass
class ImportTraces:
    """Records the imports of all models with `tracing`; nothing if it is None.

    `begin` and `end` are called by the thread that syncs the model, `took` by any.
    """

    tracing: Tracing | None = None

    def __post_init__(self) -> None:
        self._imports: dict[str, Span] = {}  # the current or last import of each model
        self._under_way: set[str] = set()

    def begin(self, model: str) -> None:
        """An import of `model` begins. The log lines of this thread belong to its trace until `end`."""
        if self.tracing is None:
            return
        self.end(model, "failed", None)  # does nothing, unless the last one ended without an outcome
        self._imports[model], trace = self.tracing.start(f"import {model}", {"bunriwiki.model.name": model})
        self._under_way.add(model)
        current_trace.set(trace)

    def took(self, model: str, phase: str, seconds: float) -> None:
        """A phase of the last import of `model` took so many seconds until now. It may end after the import (`drain`)."""
        if self.tracing is not None and model in self._imports:
            now = time.time_ns()
            self.tracing.past(self._imports[model], phase, now - int(seconds * 1e9), now, {"bunriwiki.model.name": model})

    def end(self, model: str, status: str, version: str | None) -> None:
        """The sync of `model` ended, and with it its import, if there was one."""
        if self.tracing is None or model not in self._under_way:
            return
        self._under_way.remove(model)
        span = self._imports[model]
        span.set_attribute("bunriwiki.sync.status", status)
        if version:
            span.set_attribute("bunriwiki.model.version", version)
        if status in FAILED:
            self.tracing.fail(span, status)
        span.end()
        current_trace.set(None)
