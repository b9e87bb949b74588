"""The handlers behind every door: an input in, an answer and the version that gave it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Answers, Classification, Detections, Failure
from bunriwiki.artifacts.image import BadImageError, check
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.batching.batcher import Batcher, DeadlineExceededError, OverloadedError
from bunriwiki.ipc.client import ConnectionLostError
from bunriwiki.ipc.frames import BatchError, BrokenFrameError
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.protocols.handlers.shadowing import Comparisons, Shadow
from bunriwiki.protocols.handlers.statistics import StatisticsByVersion
from bunriwiki.protocols.handlers.status import ModelStates, Status

MAX_CHARACTERS = 10_000
TRIES = 4  # of a batch whose calls name a version that not every worker has
BETWEEN_TRIES = 0.02  # seconds before a batch is offered again to workers that did not have its version
PROBE_SECONDS = 1.0  # how long a runner may take to say that it is ready

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Served(Generic[AnswerT]):
    """An answer, and what gave it."""

    model: str
    version: str
    answer: AnswerT


class RunnerClient(Protocol[AnswerT]):
    """What has batches answered by a runner (`bunriwiki.ipc.client.RunnerClient`)."""

    async def predict(self, inputs: Sequence[Any], version: str) -> Answers[AnswerT]: ...

    async def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait for a model, how many calls go to its runners at once, and how many seconds an answer may take."""

    max_queue_size: int
    parallel: int
    deadline: float


class Model(Generic[InputT, AnswerT]):
    """One model behind its batchers and the hop to its runner.

    Each batch is stamped with the version that is to answer it: the one that serves when the batch goes, or a canary beside it,
    or, in a batcher of its own, the one that the batch's calls name.
    """

    def __init__(
        self,
        name: str,
        runner: RunnerClient[AnswerT],
        route: Route,
        max_batch_size: int,
        limits: Limits,
        *,
        comparisons: Comparisons,
    ) -> None:
        self.name = name
        self.statistics = StatisticsByVersion()
        self._runner = runner
        self._route = route
        self._max_batch_size = max_batch_size
        self._limits = limits
        self._serving = self._batcher(self._call)
        self._no_canary = self._batcher(lambda batch: self._call_with(batch, self._route.version()))
        self._shadow = Shadow(name, runner.predict, comparisons, limits.deadline)
        self._named: dict[str, Batcher[InputT, Served[AnswerT | Failure]]] = {}

    async def infer(
        self, inputs: Sequence[InputT], version: str | None = None, seconds: float | None = None
    ) -> list[Served[AnswerT]]:
        """The answers for the inputs of one call, all by one version: by `version` where one is named.

        `seconds` are what the client has left, if it said. Raises RequestError, also where one input alone is at fault.
        """
        begun = time.monotonic_ns()
        try:
            served = await self._try_to_ask(inputs, version, seconds)
            answers = [Served(one.model, one.version, _unless_failed(one.answer)) for one in served]
        except errors.RequestError:
            self.statistics.of(self.version()).fail.add(time.monotonic_ns() - begun)
            raise
        self.statistics.of(answers[0].version).answered(len(inputs), time.monotonic_ns() - begun)
        return answers

    def version(self) -> str:
        """The version that serves."""
        return self._route.version()

    def loaded(self) -> set[str]:
        """The versions that may be named."""
        return self._route.loaded()

    async def _try_to_ask(
        self, inputs: Sequence[InputT], version: str | None, seconds: float | None
    ) -> list[Served[AnswerT | Failure]]:
        deadline = self._limits.deadline
        patience = deadline if seconds is None else min(seconds, deadline)
        try:
            return await self._ask(inputs, version, time.monotonic() + patience)
        except OverloadedError as error:
            raise errors.unavailable(
                f"More requests for {self.name} are waiting than can be answered soon. Try again later.", error.retry_after
            ) from None
        except DeadlineExceededError:
            raise errors.deadline_exceeded(
                f"{self.name} did not answer within {max(0, patience):g} s. Try again when the load is lower."
            ) from None
        except (BatchError, BrokenFrameError, ConnectionLostError, OSError, TimeoutError) as error:
            logger.error("the runner of {} did not answer: {!r}", self.name, error)
            raise errors.unavailable(f"{self.name} is being restarted. Try again in a moment.") from None

    async def _ask(self, inputs: Sequence[InputT], version: str | None, end: float) -> list[Served[AnswerT | Failure]]:
        if len(inputs) > self._limits.max_queue_size:
            raise errors.too_large(f"At most {self._limits.max_queue_size} inputs go in one call.")
        if version is not None and version != self.version():
            return await self._batcher_of(version).submit(inputs, _left(end))
        batcher = self._serving
        while True:
            served = await batcher.submit(inputs, _left(end))
            versions = {one.version for one in served}
            if len(versions) == 1 and version in (None, *versions):
                return served
            if version is not None:  # a canary answered, or it was swapped away: it stays in memory for a moment
                return await self._batcher_of(version).submit(inputs, _left(end))
            # Else a swap came between two batches of the call, or a canary answered one: the call is asked again.
            batcher = self._no_canary

    def _batcher(
        self, call: Callable[[list[InputT]], Awaitable[list[Served[AnswerT | Failure]]]]
    ) -> Batcher[InputT, Served[AnswerT | Failure]]:
        limits = self._limits
        return Batcher(
            call, max_batch_size=self._max_batch_size, max_queue_size=limits.max_queue_size, parallel=limits.parallel
        )

    def _batcher_of(self, version: str) -> Batcher[InputT, Served[AnswerT | Failure]]:
        loaded = self.loaded()
        self._named = {name: batcher for name, batcher in self._named.items() if name in loaded}
        if version not in loaded:
            raise self._no_version(version)
        if version not in self._named:
            self._named[version] = self._batcher(lambda batch: self._call_named(batch, version))
        return self._named[version]

    def _no_version(self, version: str) -> errors.RequestError:
        return errors.not_found(
            f"{self.name} has no version {version[:70]!r} in memory. Leave it out to be answered by the one that serves."
        )

    async def ready(self) -> bool:
        """Whether the runner has a warm model."""
        try:
            return await asyncio.wait_for(self._runner.is_ready(), PROBE_SECONDS)
        except TimeoutError:
            return False

    async def _call(self, batch: list[InputT]) -> list[Served[AnswerT | Failure]]:
        return await self._call_with(batch, self._route.draw())

    async def _call_with(self, batch: list[InputT], version: str) -> list[Served[AnswerT | Failure]]:
        async with asyncio.timeout(self._limits.deadline):  # by then nobody waits for the answer any more
            while True:
                answers = await self._call_runner(batch, version)
                if answers.version == version:
                    self._route.answered(version)
                    if (copy_to := self._route.shadow()) and copy_to != version:
                        self._shadow.copy(batch, answers, copy_to)
                    return _served(answers)
                version = await self._route.instead(answers.version)
                await asyncio.sleep(BETWEEN_TRIES)

    async def _call_named(self, batch: list[InputT], version: str) -> list[Served[AnswerT | Failure]]:
        async with asyncio.timeout(self._limits.deadline):
            for _ in range(TRIES):
                answers = await self._call_runner(batch, version)
                if answers.version == version:
                    return _served(answers)
                await asyncio.sleep(BETWEEN_TRIES)  # another worker may have it
        raise self._no_version(version)

    async def _call_runner(self, batch: list[InputT], version: str) -> Answers[AnswerT]:
        begun = time.monotonic_ns()
        answers = await self._call_runner_twice(batch, version)
        if answers.version == version:
            self.statistics.of(version).infer.add(time.monotonic_ns() - begun)
        return answers

    async def _call_runner_twice(self, batch: list[InputT], version: str) -> Answers[AnswerT]:
        try:
            return await self._runner.predict(batch, version)
        except ConnectionLostError as error:
            # The worker died, or was about to end. To answer twice does no harm, so the batch goes once more: to another
            # worker, or to the new one that the parent starts.
            logger.warning("the runner of {} closed the connection ({}); calling it again", self.name, error)
            return await self._runner.predict(batch, version)


def _served(answers: Answers[AnswerT]) -> list[Served[AnswerT | Failure]]:
    return [Served(answers.model, answers.version, result) for result in answers.results]


def _left(end: float) -> float:
    """The seconds until `end`. Raises DeadlineExceededError when there are none: such a call costs no forward pass."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError
    return left


def _unless_failed(answer: AnswerT | Failure) -> AnswerT:
    if isinstance(answer, Failure):
        raise errors.of_failure(answer)
    return answer


class DataPlane:
    """All models, by name, and the checks that cost no forward pass."""

    def __init__(
        self,
        yolo: Model[Photo, Detections],
        kcbert: Model[str, Classification],
        sentiment: Model[str, Classification],
        status: Status,
    ) -> None:
        self._yolo = yolo
        self._kcbert = kcbert
        self._sentiment = sentiment
        self._status = status
        self.draining = False

    async def detect(
        self, *photos: Photo, version: str | None = None, seconds: float | None = None
    ) -> list[Served[Detections]]:
        """The recyclables in each photo. Raises RequestError."""
        for number, photo in enumerate(photos):
            if number:
                await asyncio.sleep(0)  # many photos must not hold up everybody else
            try:
                check(photo.data)
            except BadImageError as error:
                raise errors.of_failure(Failure(kind=error.kind, message=str(error))) from None
        return await self._yolo.infer(photos, version, seconds)

    async def classify_comment(
        self, *texts: str, version: str | None = None, seconds: float | None = None
    ) -> list[Served[Classification]]:
        """Hate speech or not, for each text. Raises RequestError."""
        return await self._kcbert.infer([_checked(text) for text in texts], version, seconds)

    async def classify_sentiment(
        self, *texts: str, version: str | None = None, seconds: float | None = None
    ) -> list[Served[Classification]]:
        """Whether each text is positive, negative, or neither. Raises RequestError."""
        return await self._sentiment.infer([_checked(text) for text in texts], version, seconds)

    def model(self, name: str) -> Model[Any, Any]:
        """A model by its name. Raises RequestError."""
        for model in (self._yolo, self._kcbert, self._sentiment):
            if model.name == name:
                return model
        raise errors.not_found(f"There is no model {name[:70]!r}. There are yolo, kcbert and sentiment.")

    async def models(self) -> ModelStates:
        """The state of every model."""
        return await asyncio.to_thread(self._status.models)

    async def unready(self) -> list[str]:
        """Why the service should get no requests, a phrase each; empty when it should."""
        if self.draining:
            return ["the service is shutting down"]
        models: list[Model[Any, Any]] = [self._yolo, self._kcbert, self._sentiment]
        ready = await asyncio.gather(*(model.ready() for model in models))
        reasons = [f"{model.name} has no warm model" for model, is_ready in zip(models, ready, strict=True) if not is_ready]
        waiting = await asyncio.to_thread(self._status.waiting)
        return [*reasons, waiting] if waiting else reasons


def _checked(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise errors.too_large(f"The text has {len(text)} characters; at most {MAX_CHARACTERS} are accepted. Shorten it.")
    if not text.strip():
        raise errors.invalid("The field `text` is empty. Send the text to classify.")
    return text
