"""The state of every model, from what the store says and what the workers say."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import ModelGeneration
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import HOST, Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.startup import FirstSync


class WorkerState(BaseModel):
    """A runner's worker: of this service or of another one that shares the store."""

    name: str
    here: bool = Field(description="Whether it is a worker of this service.")
    host: str
    pid: int
    state: str = Field(description="starting, ready or ending.")
    generation: int = Field(description="The generation that it follows.")
    serving: str | None = Field(description="The version that it answers with.")
    loaded: dict[str, str] = Field(description="Every version in its memory, with its state.")
    errors: dict[str, str] = Field(description="Why a version could not be loaded.")
    rss: int = Field(description="Resident memory in bytes.")
    seconds_since_heard: float


class ModelState(BaseModel):
    """What serves of one model, and how well."""

    name: str
    generation: int = Field(description="How often the serving version was changed; 0: nothing of the store serves.")
    serving: str = Field(description="The version that should answer.")
    previous: str | None = Field(description="The version that served before.")
    preparing: str | None = Field(description="The version that is being loaded beside it.")
    source: str = Field(description="Where the serving version came from.")
    by: str | None = Field(description="Who asked for it.")
    since: datetime | None
    pinned: bool
    degraded: bool
    reasons: list[str] = Field(description="Why it is degraded, a phrase each.")
    sync: ModelSync | None = Field(description="What the sidecar found in the registry; null where none runs.")
    workers: list[WorkerState]


class ModelStates(BaseModel):
    """Every model."""

    models: list[ModelState]
    sync_problems: list[str] = Field(description="What else the sidecar has to say, a sentence each.")


class Status:
    """Reads the store; blocks on its files. `workers` is how many each model of this service should have."""

    def __init__(self, layout: Layout, generation_watcher: GenerationWatcher, workers: int, first_sync: FirstSync) -> None:
        self._workers = workers
        self._first_sync = first_sync
        self._layout = layout
        self._generation_watcher = generation_watcher
        self._heartbeats = Heartbeats(layout.run)

    def models(self) -> ModelStates:
        """The state of every model."""
        alive = self._heartbeats.alive()
        sync = SyncState.read(self._layout.sync)
        if sync and not sync.is_alive and not self._first_sync.expected:
            sync = None  # one that was here once, and is not to be here any more
        problems = list(sync.problems) if sync else []
        if self._first_sync.expected and not (sync and sync.is_alive):
            problems.append("no sidecar runs: no new version comes. Its log says why")
        return ModelStates(
            models=[
                self._model(model, [one for one in alive if one.role == model], sync.models.get(model) if sync else None)
                for model in MODELS
            ],
            sync_problems=problems,
        )

    def waiting(self) -> str | None:
        """What the start still waits for, in a phrase; None when for nothing."""
        return self._first_sync.pending()

    def serving(self) -> dict[str, dict[str, bool]]:
        """By model and version, whether it serves: what this service's workers answer with against all other known versions."""
        mine = [one for one in self._heartbeats.alive() if _is_mine(one)]
        found: dict[str, dict[str, bool]] = {}
        for model in MODELS:
            aspired = self._generation_watcher.aspired(model)
            answering = {one.serving for one in mine if one.role == model and one.serving} or {aspired.serving.version}
            known = {one.version for one in aspired.instead} | set(self._layout.versions(model)) | answering
            found[model] = {version: version in answering for version in sorted(known)}
        return found

    def _model(self, model: str, workers: Sequence[Heartbeat], sync: ModelSync | None) -> ModelState:
        generation = self._generation_watcher.generations.of(model)
        serving = self._generation_watcher.aspired(model).serving.version
        reasons = self._reasons(generation, serving, workers)
        if sync and sync.trouble:
            reasons.append(sync.trouble)
        return ModelState(
            name=model,
            generation=generation.generation,
            serving=serving,
            previous=generation.previous.version if generation.previous else None,
            preparing=generation.preparing.version if generation.preparing else None,
            source=generation.serving.source if generation.serving else "fallback",
            by=generation.serving.by if generation.serving else None,
            since=generation.serving.since if generation.serving else None,
            pinned=generation.pinned,
            degraded=bool(reasons),
            reasons=reasons,
            sync=sync,
            workers=[_worker(one) for one in workers],
        )

    def _reasons(self, generation: ModelGeneration, serving: str, workers: Sequence[Heartbeat]) -> list[str]:
        reasons = []
        if generation.serving is None:
            reasons.append("fallback: no version of the store serves, the one that the repository ships does")
        for one in workers:
            if one.serving and one.serving != serving:
                reasons.append(f"{one.worker} answers with {one.serving}")
            for version, error in one.errors.items():
                reasons.append(f"{one.worker} could not load {version}: {error}")
        ready = sum(one.state == "ready" for one in workers if _is_mine(one))
        if ready < self._workers:
            reasons.append(f"{ready} of {self._workers} workers are ready")
        return reasons


def _is_mine(one: Heartbeat) -> bool:
    return one.service == (HOST, os.getppid())


def _worker(one: Heartbeat) -> WorkerState:
    return WorkerState(
        name=one.worker,
        here=_is_mine(one),
        host=one.host,
        pid=one.pid,
        state=one.state,
        generation=one.generation,
        serving=one.serving,
        loaded=one.loaded,
        errors=one.errors,
        rss=one.rss,
        seconds_since_heard=round(max(0.0, time.time() - one.at), 1),
    )
