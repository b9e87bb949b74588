"""A queue of S3's events: a message says that something may have changed, and a look finds out what."""

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

BATCH = 10  # messages in a call, SQS' own limit
MAX_HELD = 1000  # messages that one look may answer
POISON_RECEIVES = 5  # without a dead-letter queue
SHOWN = 200  # characters of a message that is not understood
NEEDED = "sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and sqs:GetQueueAttributes"

Place = tuple[str, str]  # a bucket, and a key as S3 has it


class _Foreign(BaseModel):
    """A part of somebody else's form, which may have more in it."""

    model_config = ConfigDict(frozen=True)


class _Bucket(_Foreign):
    name: str


class _Object(_Foreign):
    key: str


class _Changed(_Foreign):
    bucket: _Bucket
    object: _Object


class _Record(_Foreign):
    s3: _Changed


class S3Notification(_Foreign):
    """What S3 sends by itself. It encodes keys as a form does: a space is a `+`."""

    records: tuple[_Record, ...] = Field(alias="Records")

    def places(self) -> list[Place]:
        return [(record.s3.bucket.name, unquote_plus(record.s3.object.key)) for record in self.records]


class S3Test(_Foreign):
    """What S3 sends once, when its notifications are set up."""

    event: Literal["s3:TestEvent"] = Field(alias="Event")

    def places(self) -> list[Place]:
        return []


class EventBridgeEvent(_Foreign):
    """What EventBridge makes of it. Its keys are not encoded."""

    detail_type: str = Field(alias="detail-type", pattern="^Object ")
    detail: _Changed

    def places(self) -> list[Place]:
        return [(self.detail.bucket.name, self.detail.object.key)]


class SnsNotification(_Foreign):
    """One of the others in SNS' envelope."""

    type: Literal["Notification"] = Field(alias="Type")
    message: Json[S3Notification | EventBridgeEvent | S3Test] = Field(alias="Message")

    def places(self) -> list[Place]:
        return self.message.places()


_MESSAGE: TypeAdapter[S3Notification | EventBridgeEvent | S3Test | SnsNotification] = TypeAdapter(
    S3Notification | EventBridgeEvent | S3Test | SnsNotification
)


def changed_places(body: str) -> list[Place]:
    """The objects that a message tells of. Raises ValueError for one in no known form."""
    return _MESSAGE.validate_json(body).places()  # pydantic's ValidationError is a ValueError


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. SQS takes whole ones for what it counts itself."""

    receive: int = 20  # SQS' longest poll
    look: int = 1  # and the longest while looks are under way: messages about other models must not wait for them
    drain: float = 2.0  # how long more messages are taken before the look that answers them all
    hidden: int = 60  # how long a message stays with us unless that is extended
    extend: float = 20.0
    again: int = 30  # after a look that another may mend
    poison: int = 5
    first_pause: float = 1.0  # after an error, doubled with each further one
    longest_pause: float = 60.0


TIMING = Timing()


@dataclass(slots=True)
class _Waiting:
    """Messages that stay with us until the look that they led to has ended."""

    held: Sequence[str]
    asked: PendingSync
    hidden: float  # since when nobody else sees them


class SqsTrigger:
    """Asks `looks` for a look at `models`, or at all, when messages of the queue tell of objects that `concerns` takes.

    A message is deleted when a look that began after it arrived has ended in nothing that another look may mend; until then it
    stays in the queue, and comes again. Without `client` one is made: endpoint, credentials and region are boto3's settings; a
    region that is set nowhere is the one in the queue's URL. Raises ValueError when there is none either.
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
        self._redrives: bool | None = None  # not known yet
        self._problem: str | None = None
        self._waiting: list[_Waiting] = []

    @property
    def problem(self) -> str | None:
        """Why the queue cannot be used at the moment, and what to mend; None while it can."""
        return self._problem

    def run(self) -> None:
        """Take messages until `stop` is set. A poll that waits then ends by itself, and what it brings is left in the queue."""
        pause = self._timing.first_pause
        while not self._stop.is_set():
            try:
                self._round()
            except (BotoCoreError, ClientError) as error:
                self._note(f"The queue {self._queue} cannot be used: {str(error).rstrip('.')}. {_advice(error)}")
            except Exception as error:  # in a thread that dies here nobody would take messages any more
                self._note(f"Messages of the queue {self._queue} cannot be worked on, which is a bug: {error!r}", error)
            else:
                self._note(None)
                pause = self._timing.first_pause
                continue
            self._stop.wait(pause)
            pause = min(pause * 2, self._timing.longest_pause)

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
        # After an error the first poll does not wait: the state says at once that the queue is back.
        longest = min(self._timing.look, self._timing.receive) if self._waiting else self._timing.receive
        messages = self._receive(0 if self._problem else longest)
        drained = time.monotonic() + self._timing.drain
        held: list[str] = []
        while messages and not self._stop.is_set():
            held += self._sort_out(messages)
            if len(held) >= MAX_HELD or time.monotonic() > drained:
                break
            messages = self._receive(0)
        if held and not self._stop.is_set():
            self._waiting.append(_Waiting(held, self._syncs.request("sqs", self._models), time.monotonic()))

    def _read_redrive_policy(self) -> bool:
        """Whether SQS moves what is received too often to a dead-letter queue."""
        try:
            answer = self._client.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["RedrivePolicy"])
        except ClientError as error:
            if "AccessDenied" not in _code(error):
                raise
            logger.warning(
                "Whether the queue {} has a RedrivePolicy may not be read, so messages that nobody understands are left in it. "
                "Allow sqs:GetQueueAttributes",
                self._queue,
            )
            return True
        if answer.get("Attributes", {}).get("RedrivePolicy"):
            return True
        logger.warning(
            "The queue {} has no RedrivePolicy, so a message that nobody understands is deleted once it was received {} times. "
            "To keep such messages set a RedrivePolicy with a second queue as deadLetterTargetArn and a maxReceiveCount of {}",
            self._queue, POISON_RECEIVES, POISON_RECEIVES,
        )  # fmt: skip
        return False

    def _receive(self, seconds: int) -> list[MessageTypeDef]:
        return self._client.receive_message(
            QueueUrl=self._queue,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=seconds,
            VisibilityTimeout=self._timing.hidden,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        ).get("Messages", [])

    def _sort_out(self, messages: Sequence[MessageTypeDef]) -> list[str]:
        """The receipts of the messages that concern us; the others are done with."""
        ours: list[str] = []
        done: list[str] = []
        left: list[str] = []
        for message in messages:
            try:
                places = changed_places(message["Body"])
            except ValidationError:
                (done if self._give_up(message) else left).append(message["ReceiptHandle"])
                continue
            concerned = any(self._concerns(bucket, key) for bucket, key in places)
            (ours if concerned else done).append(message["ReceiptHandle"])
        self._delete(done)
        self._hide(left, self._timing.poison)
        return ours

    def _give_up(self, message: MessageTypeDef) -> bool:
        """Whether a message that is not understood is deleted; with a dead-letter queue it is SQS that takes it away."""
        received, body = int(message["Attributes"]["ApproximateReceiveCount"]), message["Body"]
        if not self._redrives and received >= POISON_RECEIVES:
            logger.error("A message that is no event of S3 was received {} times and is deleted: {!r}", received, body)
            return True
        logger.warning("A message that is no event of S3 is left in the queue, receive {}: {!r}", received, body[:SHOWN])
        return False

    def _settle(self) -> None:
        """Be done with the messages whose looks have ended, and hold on to the others."""
        for one in list(self._waiting):
            outcomes = one.asked.wait(0)
            if outcomes is not None:
                self._waiting.remove(one)
                if any(outcome.status in RETRYABLE for outcome in outcomes.values()):
                    self._hide(one.held, self._timing.again)
                else:
                    self._delete(one.held)
            elif time.monotonic() - one.hidden >= self._timing.extend:
                self._hide(one.held, self._timing.hidden)
                one.hidden = time.monotonic()

    def _delete(self, receipts: Sequence[str]) -> None:
        for batch in _batches(receipts):
            entries = dict(enumerate(batch))
            for _ in range(2):
                failed = self._client.delete_message_batch(
                    QueueUrl=self._queue,
                    Entries=[{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in entries.items()],
                ).get("Failed", [])
                entries = {int(one["Id"]): entries[int(one["Id"])] for one in failed}
                if not entries:
                    break
            else:
                logger.warning("{} messages could not be deleted and come again: {}", len(failed), failed[0])

    def _hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Have SQS show the messages again in `seconds`, to us or another replica."""
        for batch in _batches(receipts):
            failed = self._client.change_message_visibility_batch(
                QueueUrl=self._queue,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                    for number, receipt in enumerate(batch)
                ],
            ).get("Failed", [])
            if failed:
                logger.warning("{} messages may come again too soon: {}", len(failed), failed[0])


def _batches(receipts: Sequence[str]) -> list[Sequence[str]]:
    return [receipts[first : first + BATCH] for first in range(0, len(receipts), BATCH)]


def queue_client(queue_url: str) -> SQSClient:
    """A client for the queue. Raises ValueError where its region is not known."""
    session = boto3.session.Session()
    named = re.search(r"(?:^|\.)sqs\.([a-z0-9-]+)\.", urlsplit(queue_url).hostname or "")
    region = session.region_name or (named[1] if named else None)
    if region is None:
        raise ValueError(f"The region of the queue {queue_url} is not known. Set AWS_DEFAULT_REGION")
    # One try a call: `run` tries again by itself, and says so.
    config = Config(connect_timeout=5, read_timeout=TIMING.receive + 10, retries={"total_max_attempts": 1, "mode": "standard"})
    return session.client("sqs", region_name=region, config=config)


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _advice(error: BotoCoreError | ClientError) -> str:
    code = _code(error) if isinstance(error, ClientError) else ""
    if "AccessDenied" in code:
        return f"Allow this service {NEEDED} on it."
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return "Check the queue's URL, and the region."
    return "It is tried again. Check the network, the credentials and AWS_ENDPOINT_URL_SQS if it lasts."
