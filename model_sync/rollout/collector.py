"""The metrics of the rollout, which the sidecar's `/metrics` returns: of its state file, and of the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from loguru import logger
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bunriwiki.model_store.history import History
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.recorder import ENDED
from model_sync.rollout.state import Cause, Phase, State, StateError
from model_sync.rollout.wishes import Wishes, WishesError

PHASES: tuple[Phase, ...] = get_args(Phase)
OUTCOMES: tuple[str, ...] = ("done", *get_args(Cause))


class RolloutCollector(Collector):
    """The metrics of the rollout of the store at `layout`. Rollouts are counted in the history, from the store's first day."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._size = -1  # of the history when it was counted
        self._counts: Counter[str] = Counter()

    def describe(self) -> list[Metric]:
        """Nothing: to register the collector must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            state, wishes = State.read(self._layout.rollout_state), Wishes.read(self._layout.rollout_wishes)
            ended = self._count()
        except (StateError, WishesError, OSError) as error:  # the other metrics are still worth a scrape; these are absent
            logger.error("the metrics of the rollout cannot be read: {}", error)
            return
        rollouts = CounterMetricFamily("bunriwiki_rollouts", "Rollouts that ended, by what came of them.", labels=["outcome"])
        for outcome in OUTCOMES:
            rollouts.add_metric([outcome], ended[outcome])
        yield rollouts
        phases = GaugeMetricFamily("bunriwiki_rollout_phase", "1 for the phase of the last rollout.", labels=["phase"])
        for phase in PHASES:
            phases.add_metric([phase], float(bool(state.current and state.current.phase == phase)))
        yield phases
        replicas = GaugeMetricFamily(
            "bunriwiki_rollout_replicas", "Replicas that should run, and those that have the new image.", labels=["of"]
        )
        replicas.add_metric(["wanted"], state.current.wanted if state.current else 0)
        replicas.add_metric(["new"], state.replaced)
        yield replicas
        for name, documentation, value in (
            ("paused", "1 if an operator paused the rollout.", wishes.paused),
            ("waiting", "1 if a step waits for an operator's approval.", state.waiting is not None),
            ("blocked", "1 if something keeps the rollout from its next step.", state.problem is not None),
        ):
            yield GaugeMetricFamily(f"bunriwiki_rollout_{name}", documentation, float(value))
        alive = GaugeMetricFamily(
            "bunriwiki_rollout_last_seen_timestamp_seconds",
            "When the rollout's process gave its last sign of life, in seconds since the epoch.",
            labels=[],
        )
        if state.at:
            alive.add_metric([], state.at)
        yield alive

    def _count(self) -> Counter[str]:
        """The rollouts that ended, by outcome: an event of any of their versions counts once."""
        size = self._layout.history.stat().st_size if self._layout.history.exists() else 0
        if size != self._size:  # it is only appended to
            outcomes = {
                event.rollout: "done" if event.kind == "rolled_out" else event.cause or ""
                for event in History(self._layout.history).read()
                if event.kind in ENDED
            }
            self._counts = Counter(outcomes.values())
            self._size = size
        return self._counts
