"""Whether the new replicas have more errors, or answer later, than the old ones under the same load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from model_sync.rollout.policy import GoBack

FAULTS = ("runner_lost", "model_error", "deadline")  # reasons of failures that are not the client's, nor overload
MIN_SLOWDOWN_SECONDS = 0.005  # of the median: a smaller difference is noise, whatever the ratio


@dataclass(frozen=True, slots=True)
class Figures:
    """What a replica, or several, has counted: answers, failures that are its own, and answers by model and upper bound of
    their time in seconds (a cumulative histogram)."""

    answers: float = 0.0
    failures: float = 0.0
    times: Mapping[tuple[str, float], float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Figures:
        """The figures in the text of a scrape. Raises ValueError."""
        answers = failures = 0.0
        times: dict[tuple[str, float], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "bunriwiki_predictions_total":
                    answers += sample.value
                elif sample.name == "bunriwiki_prediction_failures_total" and sample.labels["reason"] in FAULTS:
                    failures += sample.value
                elif sample.name == "bunriwiki_prediction_duration_seconds_bucket":
                    place = sample.labels["model"], float(sample.labels["le"])
                    times[place] = times.get(place, 0.0) + sample.value
        return cls(answers, failures, times)

    def since(self, before: Figures) -> Figures:
        """What was counted after `before`. A replica that restarted meanwhile counts from zero."""
        if before.answers > self.answers or before.failures > self.failures:
            return self
        times = {place: count - before.times.get(place, 0.0) for place, count in self.times.items()}
        return Figures(self.answers - before.answers, self.failures - before.failures, times)

    @classmethod
    def total(cls, figures: Iterable[Figures]) -> Figures:
        """The sum over replicas."""
        answers = failures = 0.0
        times: dict[tuple[str, float], float] = {}
        for each in figures:
            answers, failures = answers + each.answers, failures + each.failures
            for place, count in each.times.items():
                times[place] = times.get(place, 0.0) + count
        return cls(answers, failures, times)

    def median_seconds(self, model: str) -> tuple[float, float]:
        """The median time of an answer of `model`, interpolated in its bucket, and the number of answers."""
        buckets = sorted((bound, count) for (name, bound), count in self.times.items() if name == model)
        total = buckets[-1][1] if buckets else 0.0
        lower, below = 0.0, 0.0
        for bound, count in buckets:
            if total and count >= total / 2:
                if math.isinf(bound) or count == below:
                    return lower, total
                return lower + (bound - lower) * (total / 2 - below) / (count - below), total
            lower, below = bound, count
        return 0.0, total

    @property
    def models(self) -> set[str]:
        return {model for model, _ in self.times}


@dataclass(frozen=True, slots=True)
class Limits:
    """`requests`: answers on each side that a comparison requires. `error_points`: percentage points by which the share of
    failures may exceed that of the old replicas. `latency_ratio`: the largest ratio of the medians of a model."""

    requests: int
    error_points: float
    latency_ratio: float


def worse(new: Figures, old: Figures, limits: Limits) -> GoBack | None:
    """How the new replicas are worse than the old ones; None if they are not, or if there were too few requests to say so."""
    share, usual = _share(new), _share(old)
    if new.answers + new.failures >= limits.requests and share > usual + limits.error_points:
        return GoBack("errors", f"{share:.1f}% of the requests to new replicas failed (old replicas: {usual:.1f}%)")
    for model in sorted(new.models):
        (median, answers), (before, answers_before) = new.median_seconds(model), old.median_seconds(model)
        if min(answers, answers_before) < limits.requests:
            continue
        if median > limits.latency_ratio * before and median - before > MIN_SLOWDOWN_SECONDS:
            sentence = f"{model} takes {1000 * median:.1f} ms on new replicas (old replicas: {1000 * before:.1f} ms)"
            return GoBack("latency", sentence)
    return None


def _share(figures: Figures) -> float:
    total = figures.answers + figures.failures
    return 100 * figures.failures / total if total else 0.0
