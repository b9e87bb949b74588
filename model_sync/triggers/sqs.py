"""An SQS queue with S3 event notifications: a message about a watched object requests a sync."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote_plus, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError

from model_sync.syncing.requests import RETRYABLE, PendingSync, SyncRequests

if TYPE_CHECKING:  # stubs, for checks only
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageTypeDef

BATCH = 10  # messages per call, a limit of SQS
MAX_MESSAGES = 1000  # that one sync may cover
POISON_RECEIVES = 5  # after which a message of an unknown format is deleted, if the queue has no redrive policy
SHOWN = 200  # characters of a message of an unknown format that are logged
NEEDED = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes"

Place = tuple[str, str]  # a bucket, and a decoded key


class _Part(BaseModel):
    """A part of a message. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)


class _Bucket(_Part):
    name: str


class _Object(_Part):
    key: str


class _Changed(_Part):
    bucket: _Bucket
    object: _Object


class _Record(_Part):
    s3: _Changed


class S3Notification(_Part):
    """An S3 event notification. Its keys are form-encoded: a space is a `+`."""

    records: tuple[_Record, ...] = Field(alias="Records")

    def places(self) -> list[Place]:
        return [(record.s3.bucket.name, unquote_plus(record.s3.object.key)) for record in self.records]


class S3Test(_Part):
    """The test event that S3 sends once, when its notifications are configured."""

    event: Literal["s3:TestEvent"] = Field(alias="Event")

    def places(self) -> list[Place]:
        return []


class EventBridgeEvent(_Part):
    """An S3 event from EventBridge. Its keys are not encoded."""

    detail_type: str = Field(alias="detail-type", pattern="^Object ")
    detail: _Changed

    def places(self) -> list[Place]:
        return [(self.detail.bucket.name, self.detail.object.key)]


class SnsNotification(_Part):
    """Any of the other messages in the envelope of SNS."""

    type: Literal["Notification"] = Field(alias="Type")
    message: Json[S3Notification | EventBridgeEvent | S3Test] = Field(alias="Message")

    def places(self) -> list[Place]:
        return self.message.places()


_MESSAGE: TypeAdapter[S3Notification | EventBridgeEvent | S3Test | SnsNotification] = TypeAdapter(
    S3Notification | EventBridgeEvent | S3Test | SnsNotification
)


def changed_places(body: str) -> list[Place]:
    """The objects that a message is about. Raises ValueError for a message of an unknown format."""
    return _MESSAGE.validate_json(body).places()  # pydantic's ValidationError is a ValueError


@dataclass(frozen=True, slots=True)
class Timing:
    """All values are in seconds. SQS accepts whole seconds only for the values that it receives."""

    poll: int = 20  # the longest poll that SQS allows
    poll_while_pending: int = 1  # while syncs are pending: a message about another model must not wait for them
    drain: float = 2.0  # for which more messages are received before the sync that covers them all
    visibility: int = 60  # for which a received message is hidden from other consumers, unless that is extended
    extend: float = 20.0  # after which it is extended
    retry: int = 30  # until a message is visible again after a retryable outcome
    poison_retry: int = 5  # until a message of an unknown format is visible again
    first_pause: float = 1.0  # after an error, doubled with each further error
    max_pause: float = 60.0


TIMING = Timing()


@dataclass(slots=True)
class _InFlight:
    """Messages that stay in the queue, hidden from other consumers, until the sync that covers them has finished."""

    receipts: Sequence[str]
    pending: PendingSync
    hidden_at: float  # when their visibility timeout started


class SqsTrigger:
    """Requests a sync of `models`, or of all models, for messages about objects for which `concerns` returns True.

    A message is deleted after a sync that started after its arrival finished with no retryable outcome. Until then it stays in
    the queue, and is received again. Without `client` it uses `queue_client`, which may raise ValueError.
    """

    def __init__(
        self,
        syncs: SyncRequests,
        queue_url: str,
        concerns: Callable[[str, str], bool],
        stop: threading.Event,
        client: SQSClient | None = None,
        *,
        models: Collection[str] | None = None,
        timing: Timing = TIMING,
    ) -> None:
        self._syncs = syncs
        self._queue = queue_url
        self._concerns = concerns
        self._stop = stop
        self._client = client or queue_client(queue_url)
        self._models = models
        self._timing = timing
        self._redrives: bool | None = None  # None: not known yet
        self._problem: str | None = None
        self._in_flight: list[_InFlight] = []

    @property
    def problem(self) -> str | None:
        """Why the queue cannot be used at the moment, and what to do; None if it can."""
        return self._problem

    def run(self) -> None:
        """Process messages until `stop` is set. The current poll then ends by itself, and its messages stay in the queue."""
        pause = self._timing.first_pause
        while not self._stop.is_set():
            try:
                self._round()
            except (BotoCoreError, ClientError) as error:
                self._note(f"The queue {self._queue} cannot be used: {str(error).rstrip('.')}. {_advice(error)}")
            except Exception as error:  # the thread must survive a bug: nothing else processes messages
                self._note(f"The messages of the queue {self._queue} cannot be processed because of a bug: {error!r}", error)
            else:
                self._note(None)
                pause = self._timing.first_pause
                continue
            self._stop.wait(pause)
            pause = min(pause * 2, self._timing.max_pause)

    def _note(self, problem: str | None, bug: Exception | None = None) -> None:
        if problem == self._problem:
            return
        if problem:
            logger.opt(exception=bug).error("{}", problem)
        else:
            logger.info("The queue {} can be used again", self._queue)
        self._problem = problem

    def _round(self) -> None:
        if self._redrives is None:
            self._redrives = self._read_redrive_policy()
        self._settle()
        seconds = min(self._timing.poll_while_pending, self._timing.poll) if self._in_flight else self._timing.poll
        # After an error the first poll returns at once, so that `problem` is cleared as soon as the queue can be used.
        messages = self._receive(0 if self._problem else seconds)
        drained = time.monotonic() + self._timing.drain
        receipts: list[str] = []
        while messages and not self._stop.is_set():
            receipts += self._sort_out(messages)
            if len(receipts) >= MAX_MESSAGES or time.monotonic() > drained:
                break
            messages = self._receive(0)
        if receipts and not self._stop.is_set():
            self._in_flight.append(_InFlight(receipts, self._syncs.request("sqs", self._models), time.monotonic()))

    def _read_redrive_policy(self) -> bool:
        """Whether SQS moves messages that are received too often to a dead-letter queue. True if that may not be read."""
        try:
            answer = self._client.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["RedrivePolicy"])
        except ClientError as error:
            if "AccessDenied" not in _code(error):
                raise
            logger.warning(
                "The credentials do not allow reading the RedrivePolicy of the queue {}, so messages of an unknown format stay "
                "in it. Allow sqs:GetQueueAttributes",
                self._queue,
            )
            return True
        if answer.get("Attributes", {}).get("RedrivePolicy"):
            return True
        logger.warning(
            "The queue {} has no RedrivePolicy, so a message of an unknown format is deleted after {} receives. To keep such "
            "messages, set a RedrivePolicy with a second queue as deadLetterTargetArn and a maxReceiveCount of {}",
            self._queue, POISON_RECEIVES, POISON_RECEIVES,
        )  # fmt: skip
        return False

    def _receive(self, seconds: int) -> list[MessageTypeDef]:
        return self._client.receive_message(
            QueueUrl=self._queue,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=seconds,
            VisibilityTimeout=self._timing.visibility,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        ).get("Messages", [])

    def _sort_out(self, messages: Sequence[MessageTypeDef]) -> list[str]:
        """The receipts of the messages that require a sync; the others are deleted or left in the queue."""
        relevant: list[str] = []
        done: list[str] = []
        left: list[str] = []
        for message in messages:
            try:
                places = changed_places(message["Body"])
            except ValidationError:
                (done if self._give_up(message) else left).append(message["ReceiptHandle"])
                continue
            is_relevant = any(self._concerns(bucket, key) for bucket, key in places)
            (relevant if is_relevant else done).append(message["ReceiptHandle"])
        self._delete(done)
        self._hide(left, self._timing.poison_retry)
        return relevant

    def _give_up(self, message: MessageTypeDef) -> bool:
        """Whether to delete a message of an unknown format. With a redrive policy, SQS moves it to the dead-letter queue."""
        received, body = int(message["Attributes"]["ApproximateReceiveCount"]), message["Body"]
        if not self._redrives and received >= POISON_RECEIVES:
            logger.error("A message that is not an S3 event was received {} times and is deleted: {!r}", received, body)
            return True
        logger.warning("A message that is not an S3 event stays in the queue, receive {}: {!r}", received, body[:SHOWN])
        return False

    def _settle(self) -> None:
        """Delete or release the messages whose syncs have finished, and keep the others hidden."""
        for batch in list(self._in_flight):
            outcomes = batch.pending.wait(0)
            if outcomes is not None:
                self._in_flight.remove(batch)
                if any(outcome.status in RETRYABLE for outcome in outcomes.values()):
                    self._hide(batch.receipts, self._timing.retry)
                else:
                    self._delete(batch.receipts)
            elif time.monotonic() - batch.hidden_at >= self._timing.extend:
                self._hide(batch.receipts, self._timing.visibility)
                batch.hidden_at = time.monotonic()

    def _delete(self, receipts: Sequence[str]) -> None:
        for batch in _batches(receipts):
            entries = dict(enumerate(batch))
            for _ in range(2):
                failed = self._client.delete_message_batch(
                    QueueUrl=self._queue,
                    Entries=[{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in entries.items()],
                ).get("Failed", [])
                entries = {int(failure["Id"]): entries[int(failure["Id"])] for failure in failed}
                if not entries:
                    break
            else:
                logger.warning("{} messages could not be deleted and will be received again: {}", len(failed), failed[0])

    def _hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Make the messages visible again in `seconds`, to this replica or another."""
        for batch in _batches(receipts):
            failed = self._client.change_message_visibility_batch(
                QueueUrl=self._queue,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                    for number, receipt in enumerate(batch)
                ],
            ).get("Failed", [])
            if failed:
                logger.warning("the visibility timeout of {} messages could not be changed: {}", len(failed), failed[0])


def _batches(receipts: Sequence[str]) -> list[Sequence[str]]:
    return [receipts[first : first + BATCH] for first in range(0, len(receipts), BATCH)]


def queue_client(queue_url: str) -> SQSClient:
    """A client with boto3's endpoint, credentials and region. Without a region there, it is read from the queue's URL.

    Raises ValueError if neither has a region.
    """
    session = boto3.session.Session()
    match = re.search(r"(?:^|\.)sqs\.([a-z0-9-]+)\.", urlsplit(queue_url).hostname or "")
    region = session.region_name or (match[1] if match else None)
    if region is None:
        raise ValueError(f"The region of the queue {queue_url} is unknown. Set AWS_DEFAULT_REGION")
    # One attempt per call: `run` retries, and reports the problem.
    config = Config(connect_timeout=5, read_timeout=TIMING.poll + 10, retries={"total_max_attempts": 1, "mode": "standard"})
    return session.client("sqs", region_name=region, config=config)


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _advice(error: BotoCoreError | ClientError) -> str:
    code = _code(error) if isinstance(error, ClientError) else ""
    if "AccessDenied" in code:
        return f"Allow {NEEDED} on it."
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return "Check the queue's URL and the region."
    return "It will be retried. If it persists, check the network, the credentials and AWS_ENDPOINT_URL_SQS."
