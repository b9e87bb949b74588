"""Whether a version may keep serving live traffic: takes its metrics, returns a reason against it or None."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bunriwiki.model_store.heartbeats import Served, Shadowed
from model_sync.quality.accuracy import Rated, smallest_drop

MAX_DEATHS = 2  # of workers, which may have other causes
DEVIATIONS = 3.3  # of the interval of a drop of accuracy: it is looked at after each feedback (docs/quality.md has its errors)
MIN_SLOWDOWN = 0.005  # seconds per batch: a smaller difference is noise, whatever the ratio


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The limits on live traffic.

    `requests`: inputs that a decision requires. `errors`: percentage points that the error rate may exceed that of the previous
    version. `latency`: maximum ratio to the latency of the previous version. `stuck`: maximum seconds for one batch.
    `differences`: maximum percent of shadow copies that are answered differently. `accuracy`: percentage points by which the
    accuracy by known feedback may be lower than that of the previous version.
    """

    requests: int
    errors: float
    latency: float
    stuck: float
    differences: float
    accuracy: float = 100


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """What a version and the previous version (`before`) did on live traffic.

    `stuck` counts the workers that do not finish a batch; `deaths` counts the workers that died and were started again. `rated`
    and `rated_before` are the known feedback on the two versions.
    """

    version: str
    before: str
    served: Served
    served_before: Served
    shadowed: Shadowed = field(default_factory=Shadowed)
    stuck: int = 0
    deaths: int = 0
    rated: Rated = field(default_factory=Rated)
    rated_before: Rated = field(default_factory=Rated)

    def __str__(self) -> str:
        text = f"{self.served.inputs} inputs, {self.served.failures} failed"
        if self.served.inputs:
            text += f", {_milliseconds(self.served):.1f} ms each"
        if self.served_before.inputs:
            text += f" ({self.before}: {_milliseconds(self.served_before):.1f} ms)"
        return text


def judge(metrics: LiveMetrics, limits: LiveLimits) -> str | None:
    """Every limit that the version exceeds, and how many inputs failed, as a sentence; None if it exceeds none.

    A share is compared as soon as the remaining ones of `requests` inputs cannot bring it below its limit.
    """
    reasons = [
        *_failures(metrics, limits), *_latency(metrics, limits), *_workers(metrics, limits), *_copies(metrics, limits),
        *filter(None, [judge_accuracy(metrics.rated, metrics.rated_before, metrics.before, limits)]),
    ]  # fmt: skip
    if not reasons:
        return None
    return f"{'; '.join(reasons)}. {metrics.served.failures} of {metrics.served.inputs} inputs failed"


def judge_accuracy(now: Rated, before: Rated, name_before: str, limits: LiveLimits) -> str | None:
    """Whether the accuracy by known feedback fell by more than is allowed, as a sentence without a full stop; None if not.

    The lower bound of the drop is compared, not the drop itself, which a few answers would decide by chance. `before` is the
    feedback on the previous version, `name_before`.
    """
    if min(now.answers, before.answers) < limits.requests:
        return None
    drop = 100 * smallest_drop(before, now, DEVIATIONS)
    if drop <= limits.accuracy:
        return None
    return (
        f"{now.accuracy:.1%} of {now.answers} rated answers were right ({name_before}: {before.accuracy:.1%} of "
        f"{before.answers}; the drop is at least {drop:.1f} points, allowed: {limits.accuracy:g})"
    )


def enough(metrics: LiveMetrics, limits: LiveLimits, *, shadow: bool) -> bool:
    """Whether both versions have answered the number of inputs that a decision requires."""
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
            f"{_percent(now.failures, now.inputs)} of the inputs failed "
            f"({metrics.before}: {_percent(before.failures, before.inputs)}; allowed: {limits.errors:g} points more)"
        )


def _latency(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    now, before = metrics.served, metrics.served_before
    if min(now.inputs, before.inputs) < limits.requests or not (now.batches and before.batches):
        return
    # A larger batch takes longer, but not proportionally. `expected` is the longest that the previous version can have taken
    # for batches of this size, so a load with larger batches does not count against the new version.
    growth = max(1.0, (now.inputs / now.batches) / (before.inputs / before.batches))
    measured, expected = now.seconds / now.batches, growth * before.seconds / before.batches
    if measured > limits.latency * expected and measured - expected > MIN_SLOWDOWN:
        yield (
            f"an input takes {_milliseconds(now):.1f} ms "
            f"({metrics.before}: {_milliseconds(before):.1f} ms; allowed: {limits.latency:g} times as long)"
        )


def _workers(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    if metrics.stuck:
        yield f"workers busy with one batch for more than {limits.stuck:g} s: {metrics.stuck}"
    if metrics.deaths > MAX_DEATHS:
        yield f"workers that died: {metrics.deaths}"


def _copies(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    compared = metrics.shadowed
    if 100 * compared.differing / max(compared.inputs, limits.requests) > limits.differences:
        yield (
            f"{_percent(compared.differing, compared.inputs)} of {compared.inputs} copies were answered differently than by "
            f"{metrics.before} (allowed: {limits.differences:g}%)"
        )


def _milliseconds(served: Served) -> float:
    return 1000 * served.seconds / served.inputs


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
