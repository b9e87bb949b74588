"""What the sidecar counts and times as it happens. A restart of the sidecar resets it; `store.py` has what survives one."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from bunriwiki import __version__
from bunriwiki.model_store.writer import SupersededError
from model_sync.errors import (
    ImportCancelledError,
    ImportCrashedError,
    ImportEnvironmentError,
    RejectedError,
    SyncCancelledError,
    UndecidedError,
)

Phase = Literal[
    "fetch", "signature", "wait", "verify", "compile", "evaluate", "publish", "prepare", "canary", "activate", "drain"
]
"""`signature`: verifying it, where signatures are required. `wait`: for other imports. `verify`: the requirements of a pyfunc.
`prepare`: until every worker has the version in memory. `canary`: on a share of the live traffic. `activate`: the change of
`generation.yaml`. `drain`: until no worker has the previous version in memory."""

ImportOutcome = Literal["promoted", "rejected", "environment_error", "crashed", "cancelled", "undecided"]
"""`crashed`: it died or timed out, and is retried. `cancelled`: the sidecar stopped, or an operator or a newer version was
faster. `undecided`: the machine may be the cause of what a gate found. `environment_error`: anything else that is not the
version's fault."""

PHASES: tuple[Phase, ...] = get_args(Phase)
OUTCOMES: tuple[ImportOutcome, ...] = get_args(ImportOutcome)
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class SyncMetrics:
    """The metrics of one sidecar that syncs `models`, in `registry`. Every series of a model exists from the start."""

    def __init__(self, models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._phases = Histogram(
            "bunriwiki_import_phase_duration_seconds",
            "Time that a phase of an import took.",
            ["model", "phase"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._imports = Counter(
            "bunriwiki_imports",
            "Attempts to bring the version that a registry offers live, by what came of them.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self._seen = Gauge(
            "bunriwiki_registry_last_seen_timestamp_seconds",
            "When the registry was last read successfully, in seconds since the epoch.",
            ["model", "registry"],
            registry=self.registry,
        )
        self._up = Gauge(
            "bunriwiki_registry_up",
            "Whether the last reading of the registry succeeded.",
            ["model", "registry"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "bunriwiki_sync_queue_depth",
            "Requests for a sync that no sync has finished yet.",
            ["model"],
            registry=self.registry,
        )
        Gauge("bunriwiki_sync_build_info", "The sidecar's version.", ["version", "python"], registry=self.registry).labels(
            __version__, platform.python_version()
        ).set(1)
        for model in models:
            for phase in PHASES:
                self._phases.labels(model, phase)
            for outcome in OUTCOMES:
                self._imports.labels(model, outcome)

    def took(self, model: str, phase: str, seconds: float) -> None:
        """Count a phase of an import; the parts of a phase, which the report has as well, are not counted."""
        if phase in PHASES:
            self._phases.labels(model, phase).observe(seconds)

    def registry_read(self, model: str, registry: str, *, succeeded: bool) -> None:
        """Note the result of reading the registry of `model`, which the metrics call `registry`."""
        self._up.labels(model, registry).set(succeeded)
        if succeeded:
            self._seen.labels(model, registry).set(time.time())

    def imported(self, model: str, outcome: ImportOutcome) -> None:
        """Count an import by its outcome."""
        self._imports.labels(model, outcome).inc()

    @contextmanager
    def count_failed_import(self, model: str) -> Iterator[None]:
        """Count an import that the block ends with an exception."""
        try:
            yield
        except BaseException as error:
            self.imported(model, _outcome(error))
            raise


def _outcome(error: BaseException) -> ImportOutcome:
    if isinstance(error, RejectedError):
        return "rejected"
    if isinstance(error, UndecidedError):
        return "undecided"
    if isinstance(error, SyncCancelledError | ImportCancelledError) or isinstance(error.__cause__, SupersededError):
        return "cancelled"
    if isinstance(error, ImportEnvironmentError) and isinstance(error.__cause__, ImportCrashedError):
        return "crashed"
    return "environment_error"
