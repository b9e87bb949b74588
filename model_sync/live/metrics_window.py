"""What a version does on live traffic from some moment on, gathered from the workers' heartbeats."""

from __future__ import annotations

import time
from collections.abc import Iterable

from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, Served, Shadowed
from model_sync.live.analysis import LiveMetrics

GATEWAY = "gateway"  # its role
SILENT = 15.0  # seconds without a word: one that died would have been started again


class MetricsWindow:
    """Begins when it is made; `look` often enough to see every worker, and what it said last.

    The counts of a worker are cumulative from its start: what it had counted at the beginning is taken off, and one that was
    started since then began at zero. `stuck` are the seconds after which a batch counts as stuck.
    """

    def __init__(self, heartbeats: Heartbeats, model: str, version: str, before: str, stuck: float) -> None:
        self._heartbeats = heartbeats
        self._model = model
        self._version = version
        self._before = before
        self._stuck = stuck
        self._began = time.time()
        self._first = {one.worker: one for one in self._ours()}
        self._last = dict(self._first)
        self._ending: set[str] = set()

    def until_it_began(self) -> Served:
        """What the version before had done until the beginning."""
        return _total(one.served.get(self._before, Served()) for one in self._first.values())

    def read(self, served_before: Served | None = None) -> LiveMetrics:
        """The metrics since the beginning; those of the version before may be others (`served_before`)."""
        alive = self._ours()
        self._last |= {one.worker: one for one in alive}
        self._ending |= {one.worker for one in alive if one.state == "ending"}
        deaths, silent = self._losses(alive)
        busy = [  # by what they say themselves: the last word of one that has just died may be that it was busy
            one
            for one in alive
            if one.busy_with == self._version and one.busy_since and one.at - max(one.busy_since, self._began) > self._stuck
        ]
        return LiveMetrics(
            version=self._version,
            before=self._before,
            served=self._since(self._version),
            served_before=self._since(self._before) if served_before is None else served_before,
            shadowed=self._compared(),
            stuck=len(busy) + silent,
            deaths=deaths,
        )

    def _ours(self) -> list[Heartbeat]:
        """The live runners of the model, and the gateways."""
        return [one for one in self._heartbeats.alive() if one.role in (self._model, GATEWAY)]

    def _since(self, version: str) -> Served:
        nothing = Served()
        return _total(
            _less(last.served.get(version, nothing), self._first[name].served.get(version, nothing))
            if name in self._first
            else last.served.get(version, nothing)
            for name, last in self._last.items()
        )

    def _compared(self) -> Shadowed:
        key, nothing = f"{self._model}:{self._version}", Shadowed()
        inputs = differing = 0
        for name, last in self._last.items():
            told = last.shadowed.get(key, nothing)
            known = self._first[name].shadowed.get(key, nothing) if name in self._first else nothing
            if told.inputs < known.inputs:
                known = nothing
            inputs += told.inputs - known.inputs
            differing += told.differing - known.differing
        return Shadowed(inputs=inputs, differing=differing)

    def _losses(self, alive: Iterable[Heartbeat]) -> tuple[int, int]:
        """How many runners died and were started again, and how many say nothing any more though their service lives.

        A service that is stopped, or replaced by another one, loses workers, but starts none again.
        """
        living = {one.worker for one in alive}
        services = {one.service for one in alive}
        deaths = silent = 0
        for service in services:
            runners = [one for one in self._last.values() if one.role == self._model and one.service == service]
            appeared = [one for one in runners if one.worker not in self._first]
            gone = [
                one
                for one in runners
                if one.worker not in living | self._ending
                and (one.worker not in self._first or one.prepared(self._version))  # else it may have been left behind
            ]
            deaths += min(len(gone), len(appeared))
            if len(gone) > len(appeared):
                silent += sum(time.time() - one.at > max(self._stuck, SILENT) for one in gone)
        return deaths, silent


def _total(parts: Iterable[Served]) -> Served:
    inputs = failures = batches = 0
    seconds = 0.0
    for one in parts:
        inputs, failures = inputs + one.inputs, failures + one.failures
        batches, seconds = batches + one.batches, seconds + one.seconds
    return Served(inputs=inputs, failures=failures, batches=batches, seconds=seconds)


def _less(last: Served, first: Served) -> Served:
    """What was counted between two looks at one worker; it forgets versions that have not answered for long."""
    if last.inputs < first.inputs:
        return last
    return Served(
        inputs=last.inputs - first.inputs,
        failures=last.failures - first.failures,
        batches=last.batches - first.batches,
        seconds=last.seconds - first.seconds,
    )
