"""Whether a version may stay on live traffic: metrics in, a reason against it or None out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bunriwiki.model_store.heartbeats import Served, Shadowed

DEATHS = 3  # of workers: one may have died of something else
NOTICEABLE = 0.005  # seconds that a batch has to take longer: below, twice as long is noise


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What is allowed on live traffic.

    A decision takes `requests` inputs. `errors`: points of failed inputs more than the version before; `latency`: times as long
    as it takes; `stuck`: seconds for one batch; `differences`: percent of copies answered differently.
    """

    requests: int
    errors: float
    latency: float
    stuck: float
    differences: float


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """What a version did on live traffic, and what the one before did.

    `stuck` workers do not come to an end with a batch; `deaths` are workers that died, and were started again.
    """

    version: str
    before: str
    served: Served
    served_before: Served
    shadowed: Shadowed = field(default_factory=Shadowed)
    stuck: int = 0
    deaths: int = 0

    def __str__(self) -> str:
        text = f"{self.served.inputs} inputs, {self.served.failures} failed"
        if self.served.inputs:
            text += f", {_milliseconds(self.served):.1f} ms each"
        if self.served_before.inputs:
            text += f"; before: {_milliseconds(self.served_before):.1f} ms"
        return text


def judge(metrics: LiveMetrics, limits: LiveLimits) -> str | None:
    """Why the version must not stay, in a sentence that says how many inputs failed; None where nothing speaks against it.

    A share is judged as soon as it is known whatever the rest of `requests` inputs will be.
    """
    reasons = [*_failures(metrics, limits), *_latency(metrics, limits), *_workers(metrics, limits), *_copies(metrics, limits)]
    if not reasons:
        return None
    return f"{'; '.join(reasons)}. {metrics.served.failures} of {metrics.served.inputs} inputs failed"


def enough(metrics: LiveMetrics, limits: LiveLimits, *, shadow: bool) -> bool:
    """Whether both versions have answered so much that more would not change the judgement."""
    counted = [metrics.served.inputs, metrics.served_before.inputs]
    if shadow:
        counted.append(metrics.shadowed.inputs)
    return min(counted) >= limits.requests


def _failures(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    now, before = metrics.served, metrics.served_before
    usual = 100 * before.failures / before.inputs if before.inputs >= limits.requests else 0.0
    share = 100 * now.failures / max(now.inputs, limits.requests)
    if share > usual + limits.errors:
        yield (
            f"{_percent(now.failures, now.inputs)} of the inputs failed, with {metrics.before} "
            f"{_percent(before.failures, before.inputs)}; {limits.errors:g} points more are allowed"
        )


def _latency(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    now, before = metrics.served, metrics.served_before
    if min(now.inputs, before.inputs) < limits.requests or not (now.batches and before.batches):
        return
    # A batch takes the longer the more inputs it has, but not in proportion. So this is the longest that the version before may
    # have taken for batches of this size: another load, with other batches, is not held against the new version.
    growth = max(1.0, (now.inputs / now.batches) / (before.inputs / before.batches))
    mine, theirs = now.seconds / now.batches, growth * before.seconds / before.batches
    if mine > limits.latency * theirs and mine - theirs > NOTICEABLE:
        yield (
            f"{_milliseconds(now):.1f} ms for an input, {metrics.before} took {_milliseconds(before):.1f}; "
            f"{limits.latency:g} times that is allowed"
        )


def _workers(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    if metrics.stuck:
        yield f"workers that are busy with one batch for more than {limits.stuck:g} s: {metrics.stuck}"
    if metrics.deaths >= DEATHS:
        yield f"workers that died with it: {metrics.deaths}"


def _copies(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    compared = metrics.shadowed
    if 100 * compared.differing / max(compared.inputs, limits.requests) > limits.differences:
        yield (
            f"{_percent(compared.differing, compared.inputs)} of {compared.inputs} copies were answered differently than by "
            f"{metrics.before}; {limits.differences:g}% are allowed"
        )


def _milliseconds(served: Served) -> float:
    return 1000 * served.seconds / served.inputs


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
