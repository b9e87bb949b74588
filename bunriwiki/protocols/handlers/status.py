"""The status of every model as the service sees it: the store's, and whether this service serves as it should."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import ModelGeneration, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import HOST, Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.status import ModelStatus, WorkerStatus
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.startup import FirstSync

DECIDED_BY = {"monitor": "the rollout monitor", "operator": "an operator"}


class ServiceWorkerStatus(WorkerStatus):
    """A worker of this service, or of another service that shares the store."""

    here: bool = Field(description="Whether it is a worker of this service.")


class ServiceModelStatus(ModelStatus):
    """A model's status, and whether this service serves it as it should. The fallback version has its own name."""

    workers: tuple[ServiceWorkerStatus, ...]
    fallback: str = Field(description="The bundled version, which answers if `serving` is null or names it.")
    degraded: bool
    reasons: tuple[str, ...] = Field(description="Why it is degraded, a phrase each.")

    @property
    def serving_version(self) -> str:
        """The version that should answer."""
        return self.serving.version if self.serving else self.fallback


class ServiceStatus(BaseModel):
    """The status of every model."""

    model_config = ConfigDict(frozen=True)

    models: tuple[ServiceModelStatus, ...]
    problems: tuple[str, ...] = Field(description="What is wrong with the sidecar or with its triggers, a sentence each.")


class Status:
    """Reads the store; blocks on its files.

    This service should have `workers` workers of each model. A registry feeds the models in `registered`; the other models are
    meant to serve their bundled versions.
    """

    def __init__(
        self,
        layout: Layout,
        generation_watcher: GenerationWatcher,
        workers: int,
        first_sync: FirstSync,
        registered: Collection[str],
    ) -> None:
        self._registered = frozenset(registered)
        self._workers = workers
        self._first_sync = first_sync
        self._layout = layout
        self._generation_watcher = generation_watcher
        self._heartbeats = Heartbeats(layout.run)

    def models(self) -> ServiceStatus:
        """The status of every model."""
        alive = self._heartbeats.alive()
        sync = SyncState.read(self._layout.sync)
        if sync and not sync.is_alive and not self._first_sync.expected:
            sync = None  # written by a sidecar that is no longer configured
        problems = list(sync.problems) if sync else []
        if self._first_sync.expected and not (sync and sync.is_alive):
            problems.append("the sidecar does not run, so no new version will be served; its log says why")
        return ServiceStatus(
            models=tuple(
                self._model(
                    model,
                    [heartbeat for heartbeat in alive if heartbeat.role == model],
                    sync.models.get(model) if sync else None,
                )
                for model in MODELS
            ),
            problems=tuple(problems),
        )

    def waiting(self) -> str | None:
        """What the start still waits for, in a phrase; None if it waits for nothing."""
        return self._first_sync.pending()

    def workers(self) -> list[Heartbeat]:
        """The live workers of this service, the gateway's included, the oldest first."""
        mine = [heartbeat for heartbeat in self._heartbeats.alive() if _is_here(heartbeat)]
        return sorted(mine, key=lambda heartbeat: heartbeat.worker.rpartition("-")[2])  # its start (`worker_name`)

    def serving(self, workers: Sequence[Heartbeat]) -> dict[str, dict[str, bool]]:
        """By model and known version, whether one of `workers` answers with it."""
        found: dict[str, dict[str, bool]] = {}
        for model in MODELS:
            aspired = self._generation_watcher.aspired(model)
            answering = {worker.serving for worker in workers if worker.role == model and worker.serving}
            answering = answering or {aspired.serving.version}  # as long as no worker has a heartbeat
            known = {other.version for other in aspired.instead} | set(self._layout.versions(model)) | answering
            found[model] = {version: version in answering for version in sorted(known)}
        return found

    def _model(self, model: str, workers: Sequence[Heartbeat], sync: ModelSync | None) -> ServiceModelStatus:
        reasons = self._reasons(model, workers)
        if sync and sync.trouble:
            reasons.append(sync.trouble)
        return ServiceModelStatus.of(
            model,
            self._with_own_names(model, self._generation_watcher.generations.of(model)),
            (ServiceWorkerStatus.of(worker, here=_is_here(worker)) for worker in workers),
            sync,
            fallback=self._generation_watcher.fallback_version(model),
            degraded=bool(reasons),
            reasons=tuple(reasons),
        )

    def _with_own_names(self, model: str, generation: ModelGeneration) -> ModelGeneration:
        """With the name that this service's fallback version has in its answers."""
        name = self._generation_watcher.fallback_version(model)

        def named(target: Target | None) -> Target | None:
            return target.model_copy(update={"version": name}) if target and target.version == FALLBACK else target

        targets = {"serving": generation.serving, "previous": generation.previous, "preparing": generation.preparing}
        return generation.model_copy(update={place: named(target) for place, target in targets.items()})

    def _reasons(self, model: str, workers: Sequence[Heartbeat]) -> list[str]:
        reasons = []
        decided = self._generation_watcher.generations.of(model).serving
        if model in self._registered and decided is None:
            reasons.append("fallback: no version from the store serves, so the bundled fallback model does")
        if model in self._registered and decided and decided.version == FALLBACK:
            reasons.append(f"fallback: {DECIDED_BY.get(decided.by, decided.by)} went back to the bundled fallback model")
        serving = self._generation_watcher.aspired(model).serving.version
        for worker in workers:
            if worker.serving and worker.serving != serving:
                reasons.append(f"{worker.worker} answers with {worker.serving}")
            for version, error in worker.errors.items():
                reasons.append(f"{worker.worker} could not load {version}: {error}")
        ready = sum(worker.state == "ready" for worker in workers if _is_here(worker))
        if ready < self._workers:
            reasons.append(f"{ready} of {self._workers} workers are ready")
        return reasons


def _is_here(heartbeat: Heartbeat) -> bool:
    return heartbeat.service == (HOST, os.getppid())
