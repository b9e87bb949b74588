"""The handlers behind every door: an input in, an answer and the version that gave it out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
from bentoml.exceptions import BentoMLException
from loguru import logger

from artifacts.answers import Answers, Classification, Detections, Failure
from artifacts.image import BadImageError, check
from artifacts.inputs import Photo
from batching.batcher import Batcher, DeadlineExceededError, OverloadedError
from protocols import errors
from protocols.routing import Route
from protocols.statistics import Statistics
from protocols.status import ModelStates, Status

MOST_CHARACTERS = 10_000
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


class RunnerProxy(Protocol):
    """What BentoML's `depends()` gives for a runner in another process."""

    @property
    def to_async(self) -> Any: ...

    async def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait for a model, how many calls go to its runners at once, and how many seconds an answer may take."""

    most_waiting: int
    parallel: int
    deadline: float


class Model(Generic[InputT, AnswerT]):
    """One model behind its batcher and the hop to its runner. Each batch is stamped with the version that is to answer it."""

    def __init__(self, name: str, runner: RunnerProxy, route: Route, most_at_once: int, limits: Limits) -> None:
        self.name = name
        self._runner = runner
        self._route = route
        self._deadline = limits.deadline
        self.statistics = Statistics()
        self._batcher: Batcher[InputT, Served[AnswerT | Failure]] = Batcher(
            self._call, most_at_once=most_at_once, most_waiting=limits.most_waiting, parallel=limits.parallel
        )

    async def infer(
        self, inputs: Sequence[InputT], version: str | None = None, seconds: float | None = None
    ) -> list[Served[AnswerT]]:
        """The answers for the inputs of one call, all by one version: by `version` where one is named.

        `seconds` are what the client has left, if it said. Raises RequestError, also where one input alone is at fault.
        """
        patience = self._deadline if seconds is None else min(seconds, self._deadline)
        with self.statistics.of_call(len(inputs)):
            served = await self._try_to_ask(inputs, version, patience)
            return [Served(one.model, one.version, _unless_failed(one.answer)) for one in served]

    async def _try_to_ask(
        self, inputs: Sequence[InputT], version: str | None, patience: float
    ) -> list[Served[AnswerT | Failure]]:
        try:
            return await self._ask(inputs, version, patience)
        except OverloadedError as error:
            raise errors.unavailable(
                f"More requests for {self.name} are waiting than can be answered soon. Try again later.", error.retry_after
            ) from None
        except DeadlineExceededError:
            raise errors.deadline_exceeded(
                f"{self.name} did not answer within {max(0, patience):g} s. Try again when the load is lower."
            ) from None
        except (aiohttp.ClientError, BentoMLException, OSError, TimeoutError) as error:
            logger.error("the runner of {} did not answer: {!r}", self.name, error)
            raise errors.unavailable(f"{self.name} is being restarted. Try again in a moment.") from None

    def version(self) -> str:
        """The version that serves."""
        return self._route.version()

    async def _ask(self, inputs: Sequence[InputT], version: str | None, seconds: float) -> list[Served[AnswerT | Failure]]:
        if seconds <= 0:
            raise DeadlineExceededError
        serving = self._route.version()
        if version in (None, serving):
            served = await self._batcher.submit(inputs, seconds)
            versions = {one.version for one in served}
            if len(versions) == 1 and version in (None, *versions):
                return served
            # A swap came between two batches of the call. What served before it is in memory for a while yet.
            version = version or serving
        if version not in self._route.loaded():
            raise self._no_version(version)
        answers = await self._hop(list(inputs), version)
        if answers.version != version:
            raise self._no_version(version)
        return [Served(answers.model, answers.version, result) for result in answers.results]

    def _no_version(self, version: str) -> errors.RequestError:
        return errors.not_found(
            f"{self.name} has no version {version[:70]!r} in memory. Leave it out to be answered by the one that serves."
        )

    async def ready(self) -> bool:
        """Whether the runner has a warm model."""
        try:
            return await asyncio.wait_for(self._runner.is_ready(), PROBE_SECONDS)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _call(self, batch: list[InputT]) -> list[Served[AnswerT | Failure]]:
        version = self._route.version()
        async with asyncio.timeout(self._deadline):  # by then nobody waits for the answer any more
            while True:
                answers = await self._hop(batch, version)
                if answers.version == version:
                    self._route.answered(version)
                    return [Served(answers.model, answers.version, result) for result in answers.results]
                version = await self._route.instead(answers.version)
                await asyncio.sleep(BETWEEN_TRIES)

    async def _hop(self, batch: list[InputT], version: str) -> Answers[AnswerT]:
        with self.statistics.of_execution(len(batch)):
            return await self._hop_twice(batch, version)

    async def _hop_twice(self, batch: list[InputT], version: str) -> Answers[AnswerT]:
        try:
            return await self._runner.to_async.predict(batch, version)  # type: ignore[no-any-return]
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # The worker died, or closed a connection that was idle at the very moment it was used. To answer twice does no
            # harm, so the batch goes once more; the parent starts a new worker, which takes it from the same socket.
            logger.warning("the runner of {} closed the connection ({!r}); calling it again", self.name, error)
            return await self._runner.to_async.predict(batch, version)  # type: ignore[no-any-return]


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
        for photo in photos:
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
        return [f"{model.name} has no warm model" for model, is_ready in zip(models, ready, strict=True) if not is_ready]


def _checked(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise errors.too_large(f"The text has {len(text)} characters; at most {MOST_CHARACTERS} are accepted. Shorten it.")
    if not text.strip():
        raise errors.invalid("The field `text` is empty. Send the text to classify.")
    return text
