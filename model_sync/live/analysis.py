"""Whether a version may keep serving live traffic: takes its metrics, returns what it exceeds, or None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

from bunriwiki.model_store.heartbeats import Served, Shadowed
from model_sync.quality.accuracy import Rated, smallest_drop

MAX_DEATHS = 2  # of workers, which may have other causes
DEVIATIONS = 3.3  # of the interval of a drop of accuracy: it is looked at after each feedback (docs/quality.md has its errors)
MIN_SLOWDOWN = 0.005  # seconds per batch: a smaller difference is noise, whatever the ratio
STANDARD_ERRORS = 3.3  # that a mean must be above its limit: by chance one in two thousand is


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


Limit = Literal["errors", "latency", "workers", "shadow", "quality"]


@dataclass(frozen=True, slots=True)
class Exceeded:
    """What a version exceeds: the first limit, and a sentence about every one and about how many inputs failed."""

    limit: Limit
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def judge(metrics: LiveMetrics, limits: LiveLimits) -> Exceeded | None:
    """What the version exceeds; None if it exceeds no limit.

    A share is compared as soon as the remaining ones of `requests` inputs cannot bring it below its limit.
    """
    accuracy = judge_accuracy(metrics.rated, metrics.rated_before, metrics.before, limits)
    checks: dict[Limit, Iterable[str]] = {
        "errors": _failures(metrics, limits),
        "latency": _latency(metrics, limits),
        "workers": _workers(metrics, limits),
        "shadow": _copies(metrics, limits),
        "quality": [accuracy] if accuracy else [],
    }
    reasons = [(limit, sentence) for limit, found in checks.items() for sentence in found]
    if not reasons:
        return None
    sentences = "; ".join(sentence for _, sentence in reasons)
    return Exceeded(reasons[0][0], f"{sentences}. {metrics.served.failures} of {metrics.served.inputs} inputs failed")


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
    """Whether both versions have answered as many inputs as a decision requires, and it is clear whether it is slow."""
    counted = [metrics.served.inputs, metrics.served_before.inputs]
    if shadow:
        counted.append(metrics.shadowed.inputs)
    return min(counted) >= limits.requests and not Slowness.of(metrics, limits).is_undecided


def _failures(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    now, before = metrics.served, metrics.served_before
    usual = 100 * before.failures / before.inputs if before.inputs >= limits.requests else 0.0
    share = 100 * now.failures / max(now.inputs, limits.requests)
    if share > usual + limits.errors:
        yield (
            f"{_percent(now.failures, now.inputs)} of the inputs failed "
            f"({metrics.before}: {_percent(before.failures, before.inputs)}; allowed: {limits.errors:g} points more)"
        )


@dataclass(frozen=True, slots=True)
class Slowness:
    """How many seconds a batch of the version takes longer than the limit allows, and how many it takes longer at all.

    `error` is the standard error of `excess`. A larger batch takes longer, but not proportionally: the previous version is
    assumed to take as much longer as it can for batches of this size, so a load with larger batches does not count against the
    version. Nor does the time in which a worker waited for a CPU core, which `Served.seconds` leaves out.
    """

    excess: float = 0.0
    difference: float = 0.0
    error: float = 0.0

    @classmethod
    def of(cls, metrics: LiveMetrics, limits: LiveLimits) -> Self:
        """Zero if one of the versions has not answered enough inputs."""
        now, before = metrics.served, metrics.served_before
        if min(now.inputs, before.inputs) < limits.requests or not (now.batches and before.batches):
            return cls()
        growth = max(1.0, (now.inputs / now.batches) / (before.inputs / before.batches))
        measured, expected = now.seconds / now.batches, growth * before.seconds / before.batches
        error = math.hypot(_standard_error(now), limits.latency * growth * _standard_error(before))
        return cls(measured - limits.latency * expected, measured - expected, error)

    @property
    def is_exceeded(self) -> bool:
        """Whether the limit is exceeded, for certain."""
        return self.excess > STANDARD_ERRORS * self.error and self.difference > MIN_SLOWDOWN

    @property
    def is_undecided(self) -> bool:
        """Whether the limit may be exceeded: more batches will tell."""
        return self.excess > 0 and self.difference > MIN_SLOWDOWN and not self.is_exceeded


def _standard_error(served: Served) -> float:
    """Of the mean seconds per batch."""
    mean = served.seconds / served.batches
    variance = max(0.0, served.squares / served.batches - mean * mean)
    return math.sqrt(variance / served.batches)


def _latency(metrics: LiveMetrics, limits: LiveLimits) -> Iterator[str]:
    if Slowness.of(metrics, limits).is_exceeded:
        yield (
            f"an input takes {_milliseconds(metrics.served):.1f} ms "
            f"({metrics.before}: {_milliseconds(metrics.served_before):.1f} ms; allowed: {limits.latency:g} times as long)"
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
