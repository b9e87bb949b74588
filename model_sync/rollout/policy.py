"""Decides the next step of a rollout, by a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from model_sync.rollout.state import Cause

MAX_LOSSES = 3  # of replicas with the new image that ended by themselves: more are the image's fault


class Health(Enum):
    """What is known of a replica.

    `STARTING`: it is not ready yet. `READY`: it answers `/readyz` with 200. `RIGHT`: it is ready, and answered the golden
    samples as it should. `PROVEN`: besides, its errors and its latency did not rise against those of the old replicas.
    `FAILED`: it did not become ready in time, answered wrongly, or has more errors or a higher latency. `GONE`: it has ended.
    """

    STARTING = "starting"
    READY = "ready"
    RIGHT = "right"
    PROVEN = "proven"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class GoBack:
    """Replace the new replicas by old ones, for a reason."""

    cause: Cause
    reason: str


SERVES = (Health.READY, Health.RIGHT, Health.PROVEN)


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica. `trial`: it gets no requests of clients. If it failed, `failure` says why."""

    name: str
    image: str
    health: Health
    trial: bool = False
    failure: GoBack | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What the policy decides by.

    `wanted` replicas should be ready at all times. The rollout goes from the image `old` to `new`, or back if `going_back`;
    `exists` says whether `new` was built. `stopped` says why `new` must not be rolled out any more, if so. `losses` is the
    number of replicas with `new` that ended by themselves. `tried`: the trial of `new` has passed. `paused` and `approved`
    are an operator's: without approval, no further replica gets the new image.
    """

    wanted: int
    old: str
    new: str
    replicas: Sequence[Seen]
    exists: bool = True
    tried: bool = True
    going_back: bool = False
    stopped: GoBack | None = None
    losses: int = 0
    paused: bool = False
    approved: bool = True


@dataclass(frozen=True, slots=True)
class Build:
    """Build and push the new image."""


@dataclass(frozen=True, slots=True)
class StartTrial:
    """Start a replica of the new image that gets no requests of clients."""


@dataclass(frozen=True, slots=True)
class PassTrial:
    """Remember that the trial has passed."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start one more replica with `image`."""

    image: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Drain a replica and remove it. `lost`: it had the new image and ended by itself."""

    replica: Seen
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """Every replica has the image that it should have."""


Action = Build | StartTrial | PassTrial | Start | Retire | GoBack | Finish


def next_action(view: View) -> Action | None:
    """At most one action; None: wait. The same view always gives the same action.

    A replica is retired only if `wanted` others are ready, or if it serves nobody: it has ended, failed, or is a trial. One
    replica more than `wanted` exists at a time. New replicas are started only as long as nothing is wrong with the new image,
    and only when the last one is proven. On the way back the old image need only become ready: it has served before.
    """
    trials = [seen for seen in view.replicas if seen.trial]
    serving = [seen for seen in view.replicas if not seen.trial]
    if view.going_back:
        return _removal(trials) or _replace(replace(view, replicas=serving), view.old)
    if failure := _failure(view):
        return failure
    if gone := [seen for seen in serving if seen.health is Health.GONE]:
        return Retire(gone[0], lost=gone[0].image == view.new)
    if not view.tried:
        return Start(view.old) if len(serving) < view.wanted else _try(view, trials)
    return _removal(trials) or _replace(replace(view, replicas=serving), view.new)


def _failure(view: View) -> GoBack | None:
    """Why the rollout must not go on; None if it may."""
    if view.stopped:
        return view.stopped
    for seen in view.replicas:
        if seen.image == view.new and seen.failure:
            return seen.failure
    if view.losses >= MAX_LOSSES:
        return GoBack("losses", f"{view.losses} replicas of the new image ended by themselves")
    return None


def _removal(trials: Sequence[Seen]) -> Action | None:
    return Retire(trials[0]) if trials else None


def _try(view: View, trials: Sequence[Seen]) -> Action | None:
    if not view.exists:
        return Build() if _may_begin(view) else None
    for trial in trials:
        if trial.image != view.new or trial.health is Health.GONE:
            return Retire(trial, lost=trial.image == view.new)
        return PassTrial() if trial.health in (Health.RIGHT, Health.PROVEN) else None
    return StartTrial() if _may_begin(view) else None


def _replace(view: View, image: str) -> Action | None:
    """The next step towards `wanted` replicas of `image`."""
    others = [seen for seen in view.replicas if seen.image != image]
    ours = [seen for seen in view.replicas if seen.image == image]
    if bad := [seen for seen in (*others, *ours) if seen.health in (Health.GONE, Health.FAILED)]:
        return Retire(bad[0])
    settled = [seen for seen in ours if seen.health is Health.PROVEN or (view.going_back and seen.health in SERVES)]
    if not others and len(settled) == len(ours) == view.wanted:
        return Finish()
    if len(ours) + len(others) > view.wanted:
        return _surplus(view, ours, others, settled)
    if len(settled) < len(ours):  # one at a time
        return None
    if view.going_back or _may_begin(view):
        return Start(image)
    return Start(view.old) if len(view.replicas) < view.wanted else None


def _surplus(view: View, ours: Sequence[Seen], others: Sequence[Seen], settled: Sequence[Seen]) -> Action | None:
    """Retire one replica of those that are too many, if the others suffice."""
    starting = [seen for seen in others if seen.health is Health.STARTING]
    if starting:
        return Retire(starting[0])
    ready = sum(seen.health in SERVES for seen in view.replicas)
    if others:
        return Retire(others[0]) if ready > view.wanted and len(settled) == len(ours) else None
    unready = [seen for seen in ours if seen.health is Health.STARTING]
    if unready and ready >= view.wanted:
        return Retire(unready[0])
    return Retire(ours[0]) if ready > view.wanted else None


def _may_begin(view: View) -> bool:
    return view.approved and not view.paused
