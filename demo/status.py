"""How each model and the load stand at this moment, read from the store and the clients."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.heartbeats import Heartbeats
from tests.probe import Probe
from tests.sidecar import Sidecar

WINDOW = 10.0  # seconds that the load's figures are about


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """One model, in words. `workers` has what each answers with, and after a plus what else it has in memory."""

    serving: str = "-"
    workers: str = "-"
    doing: str = "-"
    status: str = "-"
    reason: str = ""


def standing(sidecar: Sidecar, model: str) -> StoreStatus:
    """What the store says of a model."""
    workers = []
    for one in Heartbeats(sidecar.layout.run).alive():
        if one.role == model:
            others = "".join(f" +{version}" for version in one.loaded if version != one.serving)
            workers.append(f"{one.serving or one.state}{others}")
    state = sidecar.state(model)
    doing, status, reason = "-", "-", ""
    if state:
        share = "" if state.phase_share is None else f" {state.phase_share:.0%}"
        doing = f"{state.phase}{share}" if state.phase else "idle"
        status = f"{state.version or ''} {state.status or '-'}".strip()
        reason = state.reason or ""
    serving = Generations.read(sidecar.layout.generation).of(model).serving
    return StoreStatus(serving.version if serving else "fallback", "\n".join(workers) or "-", doing, status, reason)


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """The load: of the last seconds the pace and the percentiles in seconds, and all that was answered and that failed."""

    per_second: float
    p50: float
    p99: float
    answered: int
    failed: int


def figures(load: Iterable[Probe]) -> LiveMetrics | None:
    """None before the first answers."""
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
    answered = sum(number for what, number in counts if what == "200")
    failed = sum(number for what, number in counts if what != "200")
    pace = len(recent) / max(1.0, min(WINDOW, now - began))
    return LiveMetrics(pace, recent[len(recent) // 2], recent[int(0.99 * len(recent))], answered, failed)
