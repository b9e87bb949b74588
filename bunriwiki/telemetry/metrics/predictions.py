"""The metrics of predictions, by model and version, over all protocols alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.artifacts.answers import Work
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.telemetry.metrics.record_file import NOTHING
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

    `calls` are calls that the runner has answered and that are not counted yet, each with the number of its inputs and the work
    that the runner reported: the next request that ends counts them, in its own record. The version in a label is always one
    that the service had in memory, never a text of a client.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._versions: dict[str, _OfVersion] = {}
        self._phases = {phase: PHASE_SECONDS.labels(model, phase) for phase in PHASES}
        self.calls: list[tuple[int, Work]] = []
        self._called = recorder(*self._of_call())
        for reason in SHED_REASONS:
            SHED.labels(model, reason)

    def answered(self, version: str, inputs: int, seconds: float, queued: float) -> None:
        """Count inputs that `version` answered, `seconds` after they were checked, of which they waited for `queued`.

        For answers that are not counted together with the request of a server (`answer`).
        """
        counters = self._versions.get(version) or self.begin(version)
        counters.answered(inputs, seconds, queued)

    def answer(self, version: str) -> list[list[Child]]:
        """What the amounts of an answered request change: its inputs, the seconds from their check to their answers, those of
        the phases read, encode and queue, and for a call its inputs and its `Work`. Creates all series of the version, if there
        are none.
        """
        if version not in self._versions:
            self.begin(version)
        phases = self._phases
        return [*self._answers(version), [phases["read"]], [phases["encode"]], [phases["queue"]], *self._of_call()]

    def failed(self, version: str, reason: FailureReason) -> None:
        """Count a request that got an error. `version` is the one that failed, or that should have answered."""
        counters = self._versions.get(version) or self.begin(version)
        counters.failures[reason].inc()

    def shed(self, reason: ShedReason) -> None:
        """Count a request that was rejected before it cost a forward pass."""
        SHED.labels(self._model, reason).inc()

    def count_calls(self) -> None:
        """Count the calls that no request has counted, because theirs were cancelled or others ended first."""
        while self.calls:
            inputs, (preprocess, forward, tokens, padding) = self.calls.pop()
            self._called(inputs, preprocess or NOTHING, forward, tokens, padding)

    def begin(self, version: str) -> _OfVersion:
        """Create the series of a version."""
        mark_seen([(self._model, version)])
        counters = self._versions[version] = _OfVersion(
            recorder(*self._answers(version), [self._phases["queue"]]),
            {reason: FAILURES.labels(self._model, version, reason) for reason in FAILURE_REASONS},
        )
        return counters

    def _of_call(self) -> list[list[Child]]:
        tokens = TOKENS.labels(self._model), PADDING.labels(self._model)
        changed = BATCH_SIZE.labels(self._model), self._phases["preprocess"], self._phases["forward"], *tokens
        return [[child] for child in changed]

    def _answers(self, version: str) -> list[list[Child]]:
        return [[PREDICTIONS.labels(self._model, version)], [SECONDS.labels(self._model, version)]]


def shed_for_memory(model: str) -> None:
    """Count a request to `model` that was rejected because bodies took all their memory; "other" if it is no model."""
    SHED.labels(model if model in MODELS else OTHER, "memory").inc()
