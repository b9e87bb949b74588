"""A scrape: the metrics of all processes, and those that are computed from the status of the service."""

from __future__ import annotations

import asyncio
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.protocols.handlers.status import ServiceModelStatus, Status
from bunriwiki.telemetry.metrics.exposition import exposition
from bunriwiki.telemetry.metrics.gauges import publish
from bunriwiki.telemetry.metrics.versions import mark_seen

NUMBERS_PER_WORKER = 2  # numbers of workers, for each that there should be: circus gives out no more


class Scrape:
    """Scrapes the values in the folder `root`. `expected` is the number of workers that each role should have.

    In multiprocess mode a gauge would keep the values of dead workers, so what the status says is computed for each scrape.
    """

    def __init__(self, root: Path, status: Status, expected: Mapping[str, int], service_version: str) -> None:
        self._root = root
        self._status = status
        self._expected = expected
        self._build = [service_version, version("bentoml"), platform.python_version()]
        self._one_at_a_time = asyncio.Lock()

    async def text(self) -> bytes:
        """The body of `/metrics`. Other requests are answered meanwhile."""
        async with self._one_at_a_time:
            publish()  # so that the gauges of this worker, which may be the only one, are exact
            return await asyncio.to_thread(self._scrape)

    def _scrape(self) -> bytes:
        workers = self._status.workers()
        models = self._status.models().models
        mark_seen(_in_memory(models, workers))
        return exposition(self._root, [*self._computed(models, workers), _version_info(self._status.serving(workers))])

    def _computed(self, models: Sequence[ServiceModelStatus], workers: Sequence[Heartbeat]) -> Iterator[Metric]:
        yield _gauge(
            "bunriwiki_generation", "Activations of the model, as the store counts them.", ["model"],
            {(model.name,): model.generation for model in models},
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_worker_generation_lag",
            "Largest number of generations that a worker of this service is behind the store.", ["model"],
            {(model.name,): max((_lag(model, worker) for worker in _of(model.name, workers)), default=0) for model in models},
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_fallback_in_use", "1 if a worker of this service answers with the bundled version.", ["model"],
            {(model.name,): _uses_fallback(model, _of(model.name, workers)) for model in models},
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_model_degraded", "1 if GET /v1/models has reasons why the model is degraded.", ["model"],
            {(model.name,): model.degraded for model in models},
        )  # fmt: skip
        ready = Counter(worker.role for worker in workers if worker.state == "ready")
        yield _gauge(
            "bunriwiki_workers", "Workers that are ready.", ["role"], {(role,): ready[role] for role in self._expected}
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_workers_expected", "Workers that there should be.", ["role"],
            {(role,): number for role, number in self._expected.items()},
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_worker_memory_bytes", "Resident memory of a worker, by its number in its role.", ["role", "worker"],
            {
                (role, str(worker.number)): worker.rss_bytes  # of a worker and its replacement, the latter
                for role, expected in self._expected.items()
                for worker in _of(role, workers)
                if worker.number < NUMBERS_PER_WORKER * expected  # a runner's heartbeat may say anything
            },
        )  # fmt: skip
        yield _gauge(
            "bunriwiki_build_info", "1; the labels are the versions.", ["version", "bentoml", "python"], {tuple(self._build): 1}
        )  # fmt: skip


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values.items():
        family.add_metric(of, float(value))
    return family


def _of(role: str, workers: Sequence[Heartbeat]) -> list[Heartbeat]:
    return [worker for worker in workers if worker.role == role]


def _lag(model: ServiceModelStatus, worker: Heartbeat) -> int:
    """How many generations a worker is behind: at least one if it answers with another version than it should."""
    behind = max(0, model.generation - worker.generation)
    return max(behind, int(worker.serving not in (None, model.serving_version)))


def _uses_fallback(model: ServiceModelStatus, workers: Sequence[Heartbeat]) -> bool:
    answering = {worker.serving for worker in workers if worker.serving} or {model.serving_version}
    return model.fallback in answering


def _in_memory(models: Sequence[ServiceModelStatus], workers: Sequence[Heartbeat]) -> set[tuple[str, str]]:
    """Model and version of what serves, or is in the memory of a worker of this service."""
    loaded: defaultdict[str, set[str]] = defaultdict(set)
    for worker in workers:
        loaded[worker.role].update(worker.loaded)
    return {(model.name, name) for model in models for name in {model.serving_version, *loaded[model.name]}}


def _version_info(serving: Mapping[str, Mapping[str, bool]]) -> Metric:
    return _gauge(
        "model_version_info", "1 for the versions that serve, 0 for the others.", ["model", "version"],
        {(model, name): serves for model, versions in serving.items() for name, serves in versions.items()},
    )  # fmt: skip
