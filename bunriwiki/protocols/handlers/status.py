"""The status of every model as the service sees it: the store's, and whether this service serves as it should."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import ModelGeneration, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import HOST, Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.status import ModelStatus, WorkerStatus
from bunriwiki.model_store.sync_state import ModelSync, SyncWatch
from bunriwiki.protocols.handlers.startup import FirstSync

DECIDED_BY = {"monitor": "the rollout monitor", "operator": "an operator"}


class ServiceWorkerStatus(WorkerStatus):
    """A worker of this service, or of another service that shares the store."""

    here: bool = Field(description="Whether it is a worker of this service.")
    number: int = Field(
        description="Its number in its role, from 0, which is its label in the metrics; a replacement gets it, too."
    )


class Reason(NamedTuple):
    """Why a model is degraded, as a phrase: for everybody, and with the details for administrators."""

    public: str
    full: str


class ServiceModelStatus(ModelStatus):
    """A model's status, and whether this service serves it as it should. The fallback version has its own name."""

    workers: tuple[ServiceWorkerStatus, ...]
    fallback: str = Field(description="The bundled version, which answers if `serving` is null or names it.")
    degraded: bool
    causes: tuple[Reason, ...] = Field(exclude=True)

    @computed_field(description="Why it is degraded, a phrase each.")  # type: ignore[prop-decorator]
    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(cause.full for cause in self.causes)

    @property
    def public_reasons(self) -> tuple[str, ...]:
        """`reasons` without what only administrators may see."""
        return tuple(cause.public for cause in self.causes)

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
        self._sync = SyncWatch(layout.sync)

    def models(self) -> ServiceStatus:
        """The status of every model."""
        alive = self._heartbeats.alive()
        sync, is_alive = self._sync.read()
        if sync and not is_alive and not self._first_sync.expected:
            sync = None  # written by a sidecar that is no longer configured
        problems = list(sync.problems) if sync else []
        if self._first_sync.expected and not is_alive:
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
        causes = self._causes(model, workers)
        if sync and sync.trouble:
            causes.append(Reason(f"the last sync with its registry: {sync.status}", sync.trouble))
        return ServiceModelStatus.of(
            model,
            self._with_own_names(model, self._generation_watcher.generations.of(model)),
            (ServiceWorkerStatus.of(worker, here=_is_here(worker), number=worker.number) for worker in workers),
            sync,
            fallback=self._generation_watcher.fallback_version(model),
            degraded=bool(causes),
            causes=tuple(causes),
        )

    def _with_own_names(self, model: str, generation: ModelGeneration) -> ModelGeneration:
        """With the name that this service's fallback version has in its answers."""
        name = self._generation_watcher.fallback_version(model)

        def named(target: Target | None) -> Target | None:
            return target.model_copy(update={"version": name}) if target and target.version == FALLBACK else target

        targets = {"serving": generation.serving, "previous": generation.previous, "preparing": generation.preparing}
        return generation.model_copy(update={place: named(target) for place, target in targets.items()})

    def _causes(self, model: str, workers: Sequence[Heartbeat]) -> list[Reason]:
        causes = []
        decided = self._generation_watcher.generations.of(model).serving
        if model in self._registered and decided is None:
            causes.append(_open("fallback: no version from the store serves, so the bundled fallback model does"))
        if model in self._registered and decided and decided.version == FALLBACK:
            causes.append(_open(f"fallback: {DECIDED_BY.get(decided.by, decided.by)} went back to the bundled fallback model"))
        serving = self._generation_watcher.aspired(model).serving.version
        for worker in workers:
            public = f"worker {worker.number}" if _is_here(worker) else "a worker of another service"
            if worker.serving and worker.serving != serving:
                did = f"answers with {worker.serving}"
                causes.append(Reason(f"{public} {did}", f"{worker.worker} {did}"))
            for version, error in worker.errors.items():
                did = f"could not load {version}"
                causes.append(Reason(f"{public} {did}", f"{worker.worker} {did}: {error}"))
        ready = sum(worker.state == "ready" for worker in workers if _is_here(worker))
        if ready < self._workers:
            causes.append(_open(f"{ready} of {self._workers} workers are ready"))
        return causes


def _open(phrase: str) -> Reason:
    """A reason that has no details."""
    return Reason(phrase, phrase)


def _is_here(heartbeat: Heartbeat) -> bool:
    return heartbeat.service == (HOST, os.getppid())
