"""The metrics of predictions, by model and version, over all protocols alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.artifacts.answers import Work
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.telemetry.metrics.values import LIVE_SUM, Child, recorder
from bunriwiki.telemetry.metrics.versions import mark_seen

FailureReason = Literal["invalid_input", "overloaded", "deadline", "runner_lost", "model_error"]
ShedReason = Literal["queue_full", "deadline", "memory"]
Phase = Literal["read", "preprocess", "queue", "forward", "encode"]

FAILURE_REASONS: tuple[FailureReason, ...] = get_args(FailureReason)
PHASES: tuple[Phase, ...] = get_args(Phase)
OTHER = "other"  # the label for requests that name no model of this service: a client cannot make up labels
SHED_REASONS: tuple[ShedReason, ...] = get_args(ShedReason)

PREDICTIONS = Counter("bunriwiki_predictions_total", "Inputs answered.", ["model", "version"])
FAILURES = Counter(
    "bunriwiki_prediction_failures_total", "Requests to a model that got an error.", ["model", "version", "reason"]
)
SECONDS = Histogram(
    "bunriwiki_prediction_duration_seconds",
    "Time of an answered request, from the check of its inputs to its answers.",
    ["model", "version"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PHASE_SECONDS = Histogram(
    "bunriwiki_phase_duration_seconds",
    "Time of a phase: read, queue and encode of a request, preprocess and forward of a call to the runner.",
    ["model", "phase"],
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
BATCH_SIZE = Histogram("bunriwiki_batch_size", "Inputs per call to the runner.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64))
TOKENS = Counter("bunriwiki_batch_tokens_total", "Tokens in forward passes, padding included.", ["model"])
PADDING = Counter("bunriwiki_batch_padding_tokens_total", "Tokens in forward passes that are padding.", ["model"])
QUEUE_DEPTH = Gauge("bunriwiki_queue_depth", "Inputs that wait for a call.", ["model"], multiprocess_mode=LIVE_SUM)
SHED = Counter("bunriwiki_shed_requests_total", "Requests rejected before they cost a forward pass.", ["model", "reason"])


@dataclass(frozen=True, slots=True)
class _OfVersion:
    answered: Callable[..., None]
    failures: Mapping[FailureReason, Counter]


class PredictionMetrics:
    """Counts what one gateway worker does for one model. Use it from one event loop.

    The version in a label is always one that the service had in memory, never a text of a client.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._versions: dict[str, _OfVersion] = {}
        phases = {phase: PHASE_SECONDS.labels(model, phase) for phase in PHASES}
        self._phases = phases
        of_call = ([BATCH_SIZE.labels(model)], [phases["forward"]], [TOKENS.labels(model)], [PADDING.labels(model)])
        self._called = recorder(*of_call)
        self._called_and_preprocessed = recorder(*of_call, [phases["preprocess"]])
        for reason in SHED_REASONS:
            SHED.labels(model, reason)

    def answered(self, version: str, inputs: int, seconds: float, queued: float) -> None:
        """Count inputs that `version` answered, `seconds` after they were checked, of which they waited for `queued`.

        For answers that are not counted together with the request of a server (`answer`).
        """
        counters = self._versions.get(version) or self.begin(version)
        counters.answered(inputs, seconds, queued)

    def answer(self, version: str) -> list[list[Child]]:
        """What the amounts of an answered request change: its inputs, the seconds from their check to their answers, and those
        of the phases read, encode and queue. Creates all series of the version, if there are none.
        """
        if version not in self._versions:
            self.begin(version)
        phases = self._phases
        return [*self._answers(version), [phases["read"]], [phases["encode"]], [phases["queue"]]]

    def failed(self, version: str, reason: FailureReason) -> None:
        """Count a request that got an error. `version` is the one that failed, or that should have answered."""
        counters = self._versions.get(version) or self.begin(version)
        counters.failures[reason].inc()

    def shed(self, reason: ShedReason) -> None:
        """Count a request that was rejected before it cost a forward pass."""
        SHED.labels(self._model, reason).inc()

    def called(self, inputs: int, work: Work) -> None:
        """Count a call that the runner answered, with the work that it reported."""
        preprocess, forward, tokens, padding = work
        if preprocess:
            self._called_and_preprocessed(inputs, forward, tokens, padding, preprocess)
        else:  # a pyfunc tokenizes in its forward pass, and reports no time before it
            self._called(inputs, forward, tokens, padding)

    def begin(self, version: str) -> _OfVersion:
        """Create the series of a version."""
        mark_seen([(self._model, version)])
        counters = self._versions[version] = _OfVersion(
            recorder(*self._answers(version), [self._phases["queue"]]),
            {reason: FAILURES.labels(self._model, version, reason) for reason in FAILURE_REASONS},
        )
        return counters

    def _answers(self, version: str) -> list[list[Child]]:
        return [[PREDICTIONS.labels(self._model, version)], [SECONDS.labels(self._model, version)]]


def shed_for_memory(model: str) -> None:
    """Count a request to `model` that was rejected because bodies took all their memory; "other" if it is no model."""
    SHED.labels(model if model in MODELS else OTHER, "memory").inc()
