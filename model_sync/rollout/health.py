"""Follows the replicas of a rollout from their start until they are proven, or have failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model_sync.rollout.comparison import Figures, Limits, worse
from model_sync.rollout.policy import GoBack, Health, Seen
from model_sync.rollout.replica_client import Checks
from model_sync.rollout.target import Replica


@dataclass(frozen=True, slots=True)
class Times:
    """`ready_seconds`: that a replica may take to become ready and to answer rightly. `observe_seconds`: for which the
    metrics of a new replica are compared with those of the old ones."""

    ready_seconds: float
    observe_seconds: float


@dataclass(slots=True)
class _Known:
    """What is remembered of a new replica, by the clock of `HealthMonitor`."""

    since: float  # when it was ready last, or seen first
    right_since: float | None = None
    before: dict[str, Figures] = field(default_factory=dict)  # of each replica, when they could first be read after that
    observed_since: float | None = None  # when its own figures were read first
    is_proven: bool = False
    failure: GoBack | None = None


class HealthMonitor:
    """Says how far each replica is. A new process begins without memory, and checks every new replica again.

    `clock` returns seconds of a monotonic clock.
    """

    def __init__(self, checks: Checks, times: Times, limits: Limits, clock: Callable[[], float]) -> None:
        self._checks = checks
        self._times = times
        self._limits = limits
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def look(
        self, replicas: Sequence[Replica], new: str, *, trial: Mapping[str, str], serving: Mapping[str, str]
    ) -> list[Seen]:
        """How far the replicas are, of which those of the image `new` are checked.

        `serving` are the versions that replicas should answer with, `trial` those of a trial, which has no model store.
        """
        self._known = {replica.name: self._known[replica.name] for replica in replicas if replica.name in self._known}
        seen = []
        for replica in replicas:
            versions = trial if replica.trial else serving
            health, failure = self._health(replica, replicas, new, versions)
            seen.append(Seen(replica.name, replica.image, health, replica.trial, failure))
        return seen

    def _health(
        self, replica: Replica, replicas: Sequence[Replica], new: str, versions: Mapping[str, str]
    ) -> tuple[Health, GoBack | None]:
        if replica.exited:
            return Health.GONE, None
        is_ready = bool(replica.address) and self._checks.is_ready(replica.address)
        if replica.image != new:
            return (Health.READY if is_ready else Health.STARTING), None
        known = self._known.setdefault(replica.name, _Known(self._clock()))
        failure = known.failure or self._failure(replica, known, versions, is_ready=is_ready)
        if not failure and is_ready and known.right_since is not None and not (replica.trial or known.is_proven):
            failure = self._observe(replica, known, replicas, new)
        known.failure = failure
        if failure:
            return Health.FAILED, failure
        if not is_ready or known.right_since is None:
            return (Health.READY if is_ready else Health.STARTING), None
        return (Health.PROVEN if known.is_proven else Health.RIGHT), None

    def _failure(self, replica: Replica, known: _Known, versions: Mapping[str, str], *, is_ready: bool) -> GoBack | None:
        waited = self._clock() - known.since
        if not is_ready:
            if waited <= self._times.ready_seconds:
                return None
            return GoBack("health", f"{replica.name} was not ready for {waited:.0f} s")
        if known.right_since is not None:
            known.since = self._clock()
            return None
        answered = self._checks.answers(replica.address, versions)
        if answered.wrong:
            return GoBack("answers", answered.wrong)
        if answered.later:
            return GoBack("answers", answered.later) if waited > self._times.ready_seconds else None
        known.right_since = known.since = self._clock()
        return None

    def _observe(self, replica: Replica, known: _Known, replicas: Sequence[Replica], new: str) -> GoBack | None:
        """Compare the metrics since the replica was found right; after the time for it, the replica is proven.

        A replica whose own metrics cannot be read is never proven.
        """
        figures = {each.name: found for each in replicas if (found := self._figures(each))}
        known.before = {**figures, **known.before}
        if replica.name not in known.before:
            waited = self._clock() - (known.right_since or 0.0)
            sentence = f"the metrics of {replica.name} could not be read for {waited:.0f} s"
            return GoBack("health", sentence) if waited > self._times.ready_seconds else None
        grown = {name: now.since(known.before[name]) for name, now in figures.items()}
        images = {each.name: each.image for each in replicas}
        ours = Figures.total(each for name, each in grown.items() if images[name] == new)
        others = Figures.total(each for name, each in grown.items() if images[name] != new)
        if failure := worse(ours, others, self._limits):
            return failure
        known.observed_since = self._clock() if known.observed_since is None else known.observed_since
        known.is_proven = self._clock() - known.observed_since >= self._times.observe_seconds
        return None

    def _figures(self, replica: Replica) -> Figures | None:
        return None if replica.exited or replica.trial or not replica.address else self._checks.figures(replica.address)
