"""The commands about the promotion that a sync has under way: its canary is paused, resumed, promoted or aborted.

Each makes its decision in one write to `generation.yaml`, which the thread of the sync follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bunriwiki.model_store.generation import Canary, Generations, ModelGeneration, Target, Trigger
from model_sync.admin.exclusive import ExclusiveCommands, since
from model_sync.admin.results import Aborted, Paused, Promoted, Resumed
from model_sync.errors import CommandError

ACTIVATION_SECONDS = 30.0  # in which a sync must activate a canary that an operator has ended
POLL_SECONDS = 0.05


class RolloutCommands(ExclusiveCommands):
    """The commands. Every method raises CommandError, and then nothing has changed."""

    def pause(self, model: str, by: Trigger = "operator") -> Paused:
        """Keep the canary of `model` from being activated, until `resume` or `promote`. It keeps its share and is still judged.

        It stays paused if it has to begin again, after a restart of the sidecar for example.
        """
        with self._exclusively(model):
            before = self._now(model).paused
            version = self._change_canary(model, lambda old, target: old.pause(model, target.version)).version
            if before != version:
                self._writer.record("paused", model, version=version, by=by)
        return Paused(model=model, version=version)

    def resume(self, model: str, by: Trigger = "operator") -> Resumed:
        """Let a paused canary of `model` be activated again, once it has answered enough requests or its time is over."""
        with self._exclusively(model):
            paused = self._now(model).paused
            if paused is None:
                return Resumed(model=model, version=_canary(self._now(model), model).version, was_paused=False)
            self._writer.change(lambda old: old.pause(model, None))
            self._writer.record("resumed", model, version=paused, by=by)
        return Resumed(model=model, version=paused, was_paused=True)

    def promote(self, model: str, by: Trigger = "operator") -> Promoted:
        """Activate the canary of `model` now, paused or not, whatever its metrics are. Returns when it serves."""
        began = time.monotonic()
        with self._exclusively(model):
            canary = self._now(model).canary
            target = self._change_canary(model, lambda old, _: old.start_canary(model, None))
            while not self._is_activated(model, target):
                if since(began) > ACTIVATION_SECONDS:
                    self._change_back(model, target, canary)
                    raise CommandError("failed", f"{target.version} was not activated in time. The sidecar's log says why.")
                time.sleep(POLL_SECONDS)
            workers = [worker for worker in self._writer.heartbeats.alive() if worker.role == model]
            self._writer.record("promoted", model, version=target.version, by=by)
        prepared = sum(worker.prepared(target.version) for worker in workers)
        return Promoted(model=model, version=target.version, workers=prepared, seconds=since(began))

    def abort(self, model: str, by: Trigger = "operator") -> Aborted:
        """Give up the promotion of `model` that is under way, with or without a canary, and hold the version."""

        def aborted(old: Generations) -> Generations:
            now = old.of(model)
            if now.preparing is None or now.preparing.by == "monitor":
                raise CommandError("nothing", f"No promotion of {model} is under way. `rollback` leaves a version that serves.")
            version = now.preparing.version
            others = [held for held in now.held if held != version]
            paused = None if now.paused == version else now.paused
            return old.prepare(model, None).hold(model, *others, version).pause(model, paused)

        with self._exclusively(model):
            version = self._writer.change(aborted).of(model).held[-1]
            self._writer.record("held", model, version=version, by=by)
        return Aborted(model=model, version=version)

    def _now(self, model: str) -> ModelGeneration:
        return self._writer.generations().of(model)

    def _change_canary(self, model: str, how: Callable[[Generations, Target], Generations]) -> Target:
        """Change the generation file by `how`, which gets the canary of `model`; returns the canary."""
        found: list[Target] = []

        def changed(old: Generations) -> Generations:
            found.append(_canary(old.of(model), model))
            return how(old, found[0])

        self._writer.change(changed)
        return found[0]

    def _change_back(self, model: str, target: Target, canary: Canary | None) -> None:
        self._writer.change(lambda old: old.start_canary(model, canary) if old.of(model).preparing == target else old)

    def _is_activated(self, model: str, target: Target) -> bool:
        """Whether `target` serves. Raises CommandError if it will not."""
        now = self._now(model)
        if now.serving and now.serving.version == target.version:
            return True
        if now.preparing != target:
            raise CommandError("superseded", f"The canary of {target.version} had just ended. The history says why.")
        return False


def _canary(now: ModelGeneration, model: str) -> Target:
    """The version that is a canary or a shadow. Raises CommandError if none is."""
    if now.canary is None or now.preparing is None:
        raise CommandError("nothing", f"{model} has no canary at the moment. The status shows what is being prepared.")
    return now.preparing
