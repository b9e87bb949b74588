"""Answers inference requests of all protocols: inputs in, answers and the version that gave them out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec
from loguru import logger

from bunriwiki.artifacts.answers import Answers, Failure
from bunriwiki.artifacts.models import ModelSpec
from bunriwiki.batching.batcher import CALLERS, Batcher, DeadlineExceededError, OverloadedError
from bunriwiki.ipc.client import ConnectionLostError
from bunriwiki.ipc.frames import BatchError, BrokenFrameError
from bunriwiki.ipc.trace import current_trace, recorded
from bunriwiki.protocols.handlers.failures import of_failure
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.shadowing import Comparisons, Shadow
from bunriwiki.protocols.handlers.statistics import StatisticsByVersion
from bunriwiki.protocols.handlers.status import ServiceStatus, Status
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.telemetry.metrics.gauges import count_when_published, publish_from
from bunriwiki.telemetry.metrics.predictions import QUEUE_DEPTH, FailureReason, PredictionMetrics
from bunriwiki.web import problems

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

MAX_TRIES = 4  # of a batch whose requests name a version that not every worker has
RETRY_SECONDS = 0.02  # until a batch goes again to workers that did not have its version
PROBE_SECONDS = 1.0  # in which a runner must answer a readiness probe
CHECK_SECONDS = 0.001  # of checking inputs, after which other requests get their turn

InputT = TypeVar("InputT")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
AnswerT = TypeVar("AnswerT")


class Served(msgspec.Struct, Generic[AnswerT], frozen=True, gc=False):
    """An answer, with the model and the version that gave it, and when its call to the runner began (`time.perf_counter`)."""

    model: str
    version: str
    answer: AnswerT
    called: float = 0.0


class RunnerClient(Protocol[InputT_contra, AnswerT]):
    """Calls the workers of one runner (`bunriwiki.ipc.client.RunnerClient`)."""

    async def predict(self, inputs: Sequence[InputT_contra], version: str) -> Answers[AnswerT]: ...

    async def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one model: the inputs that may wait, the concurrent calls to its runner, and the seconds that an answer may take.

    `max_queue_cost` is what the waiting inputs may cost together (`ModelSpec.cost`).
    """

    max_queue_size: int
    parallel_calls: int
    deadline_seconds: float
    max_queue_cost: float = inf


class Model(Generic[InputT, AnswerT]):
    """One model behind its batchers and the inter-process calls to its runner.

    Each batch carries the version that must answer it: the serving version when the batch leaves the queue, or a canary beside
    it. Requests that name another version have a batcher per version. With `tracing`, batches are recorded.
    """

    def __init__(
        self,
        spec: ModelSpec[InputT, AnswerT],
        runner: RunnerClient[InputT, AnswerT],
        route: Route,
        limits: Limits,
        *,
        comparisons: Comparisons,
        tracing: Tracing | None = None,
    ) -> None:
        self.spec = spec
        self._tracing = tracing
        self.statistics = StatisticsByVersion()
        self.metrics = PredictionMetrics(spec.name)
        self.metrics.begin(route.version())
        self._runner = runner
        self._route = route
        self._limits = limits
        self._serving = self._batcher(self._call)
        self._no_canary = self._batcher(lambda batch: self._call_with(batch, self._route.version()))
        self._shadow = Shadow(spec.name, runner.predict, comparisons, limits.deadline_seconds)
        self._named: dict[str, Batcher[InputT, Served[AnswerT | Failure]]] = {}
        publish_from(QUEUE_DEPTH.labels(spec.name), self.waiting)
        count_when_published(self.metrics.count_calls)

    async def infer(
        self,
        inputs: Sequence[InputT],
        version: str | None = None,
        seconds: float | None = None,
        timing: RequestTiming | None = None,
    ) -> list[Served[AnswerT]]:
        """One answer per input, in order, all by one version: by `version` if given.

        `seconds` is the time that the client still waits; None if it did not say. The answer is counted with the request that
        `timing` is of, or by itself. Raises RequestError, also if only one of the inputs cannot be answered.
        """
        begun = time.perf_counter()
        try:
            costs = await self._costs(inputs)
        except problems.RequestError:
            self.metrics.failed(self.version(), "invalid_input")
            raise
        try:
            served = await self._submit(inputs, costs, version, seconds)
            for result in served:
                if isinstance(result.answer, Failure):
                    raise self._failure(result.version, result.answer)
        except problems.RequestError:
            self.statistics.of(self.version()).fail.add(time.perf_counter() - begun)
            raise
        answered = time.perf_counter()
        answers = cast("list[Served[AnswerT]]", served)
        last = answers[-1]
        self.statistics.of(last.version).answered(len(inputs), answered - begun)
        if timing is not None and timing.answer is None:
            timing.answer = (self.metrics, last.version, len(inputs), begun, answered, last.called - begun)
        else:
            self.metrics.answered(last.version, len(inputs), answered - begun, last.called - begun)
        return answers

    def version(self) -> str:
        """The version that serves."""
        return self._route.version()

    def loaded(self) -> set[str]:
        """The versions that a request may name."""
        return self._route.loaded()

    def waiting(self) -> int:
        """The number of inputs that wait for a call."""
        return sum(batcher.waiting for batcher in (self._serving, self._no_canary, *self._named.values()))

    async def ready(self) -> bool:
        """Whether a worker of the runner has a warm version."""
        try:
            return await asyncio.wait_for(self._runner.is_ready(), PROBE_SECONDS)
        except TimeoutError:
            return False

    async def _submit(
        self, inputs: Sequence[InputT], costs: Sequence[int], version: str | None, seconds: float | None
    ) -> list[Served[AnswerT | Failure]]:
        deadline = self._limits.deadline_seconds
        patience = deadline if seconds is None else min(seconds, deadline)
        try:
            return await self._submit_until(time.monotonic() + patience, inputs, costs, version)
        except OverloadedError as error:
            self.metrics.shed("queue_full")
            raise self._failed(
                "overloaded",
                problems.unavailable(
                    f"More requests for {self.spec.name} are waiting than can be answered soon. Try again later.",
                    error.retry_after,
                ),
            ) from None
        except DeadlineExceededError as error:
            if error.queued:
                self.metrics.shed("deadline")
            raise self._failed(
                "deadline",
                problems.deadline_exceeded(
                    f"{self.spec.name} did not answer within {max(0, patience):g} s. Try again when the load is lower."
                ),
            ) from None
        except problems.RequestError as error:  # the version or the number of inputs is not possible
            raise self._failed("invalid_input", error) from None
        except (BatchError, BrokenFrameError, ConnectionLostError, OSError, TimeoutError) as error:
            logger.error("the runner of {} did not answer: {!r}", self.spec.name, error)
            raise self._failed(
                "model_error" if isinstance(error, BatchError) else "runner_lost",
                problems.unavailable(f"{self.spec.name} is being restarted. Try again in a moment."),
            ) from None

    async def _costs(self, inputs: Sequence[InputT]) -> list[int]:
        """What each input costs. Raises RequestError if one must not reach the runner, or if they cost too much together."""
        begun = time.monotonic_ns()
        costs: list[int] = []
        for item in inputs:
            cost = self.spec.cost(item)
            if isinstance(cost, Failure):
                raise of_failure(cost)
            costs.append(cost)
            if len(inputs) > 1 and (now := time.monotonic_ns()) - begun > CHECK_SECONDS * 1e9:
                await asyncio.sleep(0)
                begun = now
        if sum(costs) > self.spec.max_call_cost:
            raise problems.too_large(self.spec.too_expensive)
        return costs

    def _failed(self, reason: FailureReason, error: problems.RequestError) -> problems.RequestError:
        """Count a failure of the version that serves; returns `error`."""
        self.metrics.failed(self.version(), reason)
        return error

    def _failure(self, version: str, failure: Failure) -> problems.RequestError:
        """Count an input that `version` could not answer; returns the error."""
        self.metrics.failed(version, "model_error" if failure.kind == "internal" else "invalid_input")
        return of_failure(failure)

    async def _submit_until(
        self, end: float, inputs: Sequence[InputT], costs: Sequence[int], version: str | None
    ) -> list[Served[AnswerT | Failure]]:
        if len(inputs) > self._limits.max_queue_size:
            raise problems.too_large(f"At most {self._limits.max_queue_size} inputs go in one call.")
        if version is not None and version != self.version():
            return await self._batcher_of(version).submit(inputs, _left(end), costs)
        batcher = self._serving
        while True:
            served = await batcher.submit(inputs, _left(end), costs)
            versions = {answered.version for answered in served}
            if len(versions) == 1 and version in (None, *versions):
                return served
            if version is not None:  # a canary answered, or another version was activated; `version` stays loaded for a moment
                return await self._batcher_of(version).submit(inputs, _left(end), costs)
            # The batches of the request were answered by different versions, because of an activation or a canary. It goes
            # through the queue again, past the canary.
            batcher = self._no_canary

    def _batcher(
        self, call: Callable[[list[InputT]], Awaitable[list[Served[AnswerT | Failure]]]]
    ) -> Batcher[InputT, Served[AnswerT | Failure]]:
        return Batcher(
            call,
            max_batch_size=self.spec.max_batch_size,
            max_queue_size=self._limits.max_queue_size,
            max_batch_cost=self.spec.max_batch_cost,
            max_queue_cost=self._limits.max_queue_cost,
            parallel=self._limits.parallel_calls,
            caller=current_trace.get if self._tracing else None,
        )

    def _batcher_of(self, version: str) -> Batcher[InputT, Served[AnswerT | Failure]]:
        loaded = self.loaded()
        self._named = {name: batcher for name, batcher in self._named.items() if name in loaded}
        if version not in loaded:
            raise self._no_version(version)
        if version not in self._named:
            self._named[version] = self._batcher(lambda batch: self._call_named(batch, version))
        return self._named[version]

    def _no_version(self, version: str) -> problems.RequestError:
        return problems.not_found(
            f"{self.spec.name} has no version {version[:70]!r} in memory. Without a version, the serving version answers."
        )

    async def _call(self, batch: list[InputT]) -> list[Served[AnswerT | Failure]]:
        return await self._call_with(batch, self._route.draw())

    async def _call_with(self, batch: list[InputT], version: str) -> list[Served[AnswerT | Failure]]:
        async with asyncio.timeout(self._limits.deadline_seconds):  # after it all requests of the batch have failed
            while True:
                answers, called = await self._call_runner(batch, version)
                if answers.version == version:
                    self._route.answered(version)
                    if (copy_to := self._route.shadow()) and copy_to != version:
                        self._shadow.copy(batch, answers, copy_to)
                    return _served(answers, called)
                version = await self._route.instead(answers.version)
                await asyncio.sleep(RETRY_SECONDS)

    async def _call_named(self, batch: list[InputT], version: str) -> list[Served[AnswerT | Failure]]:
        async with asyncio.timeout(self._limits.deadline_seconds):
            for _ in range(MAX_TRIES):
                answers, called = await self._call_runner(batch, version)
                if answers.version == version:
                    return _served(answers, called)
                await asyncio.sleep(RETRY_SECONDS)  # another worker may have it
        raise self._no_version(version)

    async def _call_runner(self, batch: list[InputT], version: str) -> tuple[Answers[AnswerT], float]:
        """The answers of the runner, and when the call began."""
        begun = time.perf_counter()
        if self._tracing is None:
            answers = await self._call_runner_twice(batch, version)
        elif not (requests := recorded(CALLERS.get())):
            current_trace.set(next(iter(CALLERS.get()), None))  # for the runner's log
            answers = await self._call_runner_twice(batch, version)
        else:
            with self._tracing.batch(self.spec.name, version, len(batch), requests) as span:
                answers = await self._call_runner_twice(batch, version)
                span.answered(self.spec.name, answers)
        if answers.version == version:
            self.statistics.of(version).infer.add(time.perf_counter() - begun)
            self.metrics.calls.append((len(batch), answers.work))
        return answers, begun

    async def _call_runner_twice(self, batch: list[InputT], version: str) -> Answers[AnswerT]:
        try:
            return await self._runner.predict(batch, version)
        except ConnectionLostError as error:
            # The worker died, or was about to end. Inference has no side effects, so the batch goes once more: to another
            # worker, or to the one that the parent starts instead.
            logger.warning("the runner of {} closed the connection ({}); calling it again", self.spec.name, error)
            return await self._runner.predict(batch, version)


def _served(answers: Answers[AnswerT], called: float) -> list[Served[AnswerT | Failure]]:
    return [Served(answers.model, answers.version, result, called) for result in answers.results]


def _left(end: float) -> float:
    """The seconds until `end`. Raises DeadlineExceededError if there are none: such a request costs no forward pass."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError(queued=True)
    return left


class DataPlane:
    """Answers inference requests with `models`, and reports whether the service is ready."""

    def __init__(self, models: Iterable[Model[Any, Any]], status: Status) -> None:
        self._models = {model.spec.name: model for model in models}
        self._status = status
        self.draining = False

    async def infer(
        self,
        spec: ModelSpec[InputT, AnswerT],
        inputs: Sequence[InputT],
        version: str | None = None,
        seconds: float | None = None,
        timing: RequestTiming | None = None,
    ) -> list[Served[AnswerT]]:
        """The answers of the model `spec` (see `Model.infer`). Raises RequestError."""
        model: Model[InputT, AnswerT] = self._models[spec.name]
        return await model.infer(inputs, version, seconds, timing)

    def model(self, name: str) -> Model[Any, Any]:
        """A model by its name. Raises RequestError."""
        if found := self._models.get(name):
            return found
        raise problems.not_found(f"There is no model {name[:70]!r}. The models are {', '.join(self._models)}.")

    async def models(self) -> ServiceStatus:
        """The status of every model."""
        return await asyncio.to_thread(self._status.models)

    async def unready(self) -> list[str]:
        """Why the service should get no requests, a phrase each; empty if it should."""
        if self.draining:
            return ["the service is shutting down"]
        ready = await asyncio.gather(*(model.ready() for model in self._models.values()))
        reasons = [f"{name} has no warm model" for name, is_ready in zip(self._models, ready, strict=True) if not is_ready]
        waiting = await asyncio.to_thread(self._status.waiting)
        return [*reasons, waiting] if waiting else reasons
