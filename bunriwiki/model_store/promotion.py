"""From one version to the next in two phases: every live worker prepares the new one, then one file says that it serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from bunriwiki.model_store.generation import Target, Trigger
from bunriwiki.model_store.writer import NotPublishedError, StoreWriter, SupersededError

POLL_SECONDS = 0.1  # seconds
DEADLINE = 120.0  # seconds for the workers to load and warm up a version


class PromotionError(Exception):
    """The version does not go live; what served, serves on. The message says why."""


class BadVersionError(PromotionError):
    """It is the version's fault: it should not be tried again."""


class CannotLoadError(BadVersionError):
    """A worker says that it cannot load the version, and none says that it can."""


class FailsLiveError(BadVersionError):
    """It does not stand live traffic."""


def promote(
    writer: StoreWriter,
    model: str,
    version: str,
    source: str,
    by: Trigger,
    *,
    deadline: float = DEADLINE,
    instead_of: str | None = None,
    before_activation: Callable[[Target], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Have `version`, which is published, serve; returns how many workers were prepared for it.

    Waits until every live worker of the model has it in memory. One that dies meanwhile is not waited for; one that is not done
    after `deadline` seconds is left behind (it ends itself and starts again with what serves then). Where no worker lives, the
    version serves from their start. Blocks; models do not wait for each other, so give each its thread.

    `before_activation` is called when the workers have it, and may take its time: what it raises keeps the version from going
    live. With `instead_of` the version goes live only where that one serves.

    Where it serves already, it stays, and what was to take its place is given up. Raises PromotionError when the version is not
    in the store or in quarantine, when a worker cannot load it, when none could by the deadline, or when somebody wanted
    another version meanwhile; BadVersionError, one of these, where it is the version's fault.
    """
    serving = writer.generations().of(model).serving
    if serving and serving.version == version:
        writer.change(lambda old: old.prepare(model, None))
        return sum(one.role == model and one.prepared(version) for one in writer.heartbeats.alive())
    target = Target(version=version, since=datetime.now(UTC), source=source, by=by)
    try:
        writer.prepare(model, target, instead_of)
        progress("preparing")
        prepared = _wait_for_workers(writer, model, target, deadline)
        progress("prepared")
        before_activation(target)
        writer.activate(model, target, prepared)
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
        workers = [one for one in writer.heartbeats.alive() if one.role == model and one.state != "ending"]
        # What a worker said before it knew of this says nothing: it may be about to unload the very version.
        informed = [one for one in workers if one.preparing == target.since]
        prepared = sum(one.prepared(target.version) for one in informed)
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
