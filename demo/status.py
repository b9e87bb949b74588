"""What the demo shows: a row for each model, from the store, and the metrics of the load, from the clients."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from bunriwiki.model_store.status import ModelStatus, WorkerStatus, read_status
from bunriwiki.model_store.sync_state import ModelSync
from bunriwiki.testing.probe import Probe
from bunriwiki.testing.sidecar import Sidecar

WINDOW = 10.0  # seconds that rate and percentiles cover


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model as text. `workers` has the version that each worker answers with and, after a plus, others in its memory."""

    serving: str = "-"
    workers: str = "-"
    doing: str = "-"
    status: str = "-"
    reason: str = ""


def model_rows(sidecar: Sidecar) -> dict[str, ModelRow]:
    """The row of each model, by its name."""
    return {model.name: _row(model, sidecar.state(model.name)) for model in read_status(sidecar.layout).models}


def _row(model: ModelStatus, sync: ModelSync | None) -> ModelRow:
    serving = model.serving.version if model.serving else "fallback"
    workers = "\n".join(_versions(worker) for worker in model.workers) or "-"
    if sync is None:
        return ModelRow(serving, workers)
    share = "" if sync.phase_share is None else f" {sync.phase_share:.0%}"
    doing = f"{sync.phase}{share}" if sync.phase else "idle"
    return ModelRow(serving, workers, doing, f"{sync.version or ''} {sync.status or '-'}".strip(), sync.reason or "")


def _versions(worker: WorkerStatus) -> str:
    others = "".join(f" +{version}" for version in worker.loaded if version != worker.serving)
    return f"{worker.serving or worker.state}{others}"


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """Answers per second and latency percentiles in seconds, within `WINDOW`; all answers and failures since the start."""

    per_second: float
    p50: float
    p99: float
    answered: int
    failed: int


def load_metrics(load: Iterable[Probe]) -> LoadMetrics | None:
    """The metrics of the load; None before the first answers."""
    probes = list(load)
    now = time.monotonic()
    recent = sorted(
        seconds
        for probe in probes
        for _, seconds in takewhile(lambda answer: answer[0] > now - WINDOW, reversed(probe.latencies))
    )
    if not recent:
        return None
    began = min(probe.latencies[0][0] for probe in probes if probe.latencies)
    counts = [count for probe in probes for count in list(probe.counts.items())]
    answered = sum(number for status, number in counts if status == "200")
    failed = sum(number for status, number in counts if status != "200")
    per_second = len(recent) / max(1.0, min(WINDOW, now - began))
    return LoadMetrics(per_second, recent[len(recent) // 2], recent[int(0.99 * len(recent))], answered, failed)
