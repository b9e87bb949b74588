"""Promotes a version in two phases: every live worker loads it, then one write to `generation.yaml` activates it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from bunriwiki.model_store.generation import Target, Trigger
from bunriwiki.model_store.writer import NotPublishedError, StoreWriter, SupersededError

POLL_SECONDS = 0.1  # between two checks of the heartbeats
DEADLINE = 120.0  # seconds for the workers to load and warm up a version


class PromotionError(Exception):
    """The version was not promoted; the serving version is unchanged. The message says why."""


class BadVersionError(PromotionError):
    """The version is at fault: it should not be tried again."""


class CannotLoadError(BadVersionError):
    """A worker cannot load the version, and no other worker has it prepared."""


class FailsLiveError(BadVersionError):
    """The version failed on live traffic. `limit` names the limit that it exceeded."""

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


def promote(
    writer: StoreWriter,
    model: str,
    version: str,
    source: str,
    by: Trigger,
    *,
    deadline: float = DEADLINE,
    instead_of: str | None = None,
    lifts_holds: bool = False,
    before_activation: Callable[[Target], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Have `version`, which is published, serve; returns the number of workers that have it in memory.

    Waits until every live worker of the model has the version in memory. A worker that dies meanwhile is not waited for. A
    worker that has not loaded it after `deadline` seconds is left behind: it ends itself, starts again, and loads what serves
    then. Without live workers the version serves from their start. Blocks; models do not wait for each other if each has its
    thread.

    `before_activation` is called once the workers have the version in memory, and may take long. An exception from it stops the
    promotion and is raised again. With `instead_of` the version is promoted only if that version serves. With `lifts_holds`, no
    version is held, paused or cancelled any more once it serves.

    If `version` serves already, it stays, and a promotion that is under way is given up. Raises PromotionError if the version
    is not in the store or is in quarantine, if a worker cannot load it, if no worker had loaded it by the deadline, or if
    another promotion of the model began meanwhile; its subclass BadVersionError if the version is at fault.
    """
    serving = writer.generations().of(model).serving
    if serving and serving.version == version:
        writer.change(lambda old: old.prepare(model, None))
        return sum(worker.role == model and worker.prepared(version) for worker in writer.heartbeats.alive())
    target = Target(version=version, since=datetime.now(UTC), source=source, by=by)
    try:
        writer.prepare(model, target, instead_of)
        progress("preparing")
        prepared = _wait_for_workers(writer, model, target, deadline)
        progress("prepared")
        before_activation(target)
        writer.activate(model, target, prepared, lifts_holds=lifts_holds)
    except BaseException as error:
        writer.abandon(model, target, str(error) or type(error).__name__)
        if isinstance(error, NotPublishedError | SupersededError):
            raise PromotionError(str(error)) from error
        raise
    progress("activated")
    return prepared


def _wait_for_workers(writer: StoreWriter, model: str, target: Target, deadline: float) -> int:
    end = time.monotonic() + deadline
    while True:
        if writer.generations().of(model).preparing != target:
            raise SupersededError(f"{model}:{target.version} is no longer wanted")
        workers = [worker for worker in writer.heartbeats.alive() if worker.role == model and worker.state != "ending"]
        # A heartbeat from before the worker knew of this target says nothing: it may be about to unload this very version.
        informed = [worker for worker in workers if worker.preparing == target.since]
        prepared = sum(worker.prepared(target.version) for worker in informed)
        for worker in informed:
            if reason := worker.failed(target.version):
                message = f"{worker.worker} cannot load {model}:{target.version}: {reason}"
                raise PromotionError(f"{message}; {prepared} others can") if prepared else CannotLoadError(message)
        if prepared == len(workers):
            return prepared
        if time.monotonic() > end:
            if not prepared:
                raise PromotionError(f"none of {len(workers)} workers had loaded {model}:{target.version} after {deadline:g} s")
            return prepared
        time.sleep(POLL_SECONDS)
