"""The queue is moto's emulation of SQS: its responses have the form of SQS, but it checks no signatures and no permissions."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from bunriwiki.testing.waiting import wait_until
from model_sync.triggers.sqs import SqsTrigger, Timing, changed_places, queue_client
from tests.model_sync.triggers.fakes import FakeSyncRequests, logged, running

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

pytestmark = pytest.mark.slow

REGION = "ap-northeast-2"
BUCKET, KEY = "bunriwiki", "kcbert/latest_model.yaml"
# Polls return at once, and messages are visible again at once.
FAST = Timing(poll=0, drain=0.3, retry=0, poison_retry=0, first_pause=0.01, max_pause=0.02)


@contextmanager
def emulator(port: int = 0) -> Iterator[str]:
    """A server that shares its queues with the other emulators of this process; yields its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    assert server._server is not None
    server._server.server_close()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, emulator() as address:
        # moto reads its clock, which is slow, about thirty times per message in each call.
        patch.setattr("moto.sqs.models.unix_time_millis", lambda: time.time() * 1000)
        yield address


def connect(address: str) -> SQSClient:
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
    return boto3.client(
        "sqs", region_name=REGION, endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b", config=config
    )


@pytest.fixture
def client(endpoint: str) -> Iterator[SQSClient]:
    client = connect(endpoint)
    yield client
    client.close()


@pytest.fixture
def dead_letters(client: SQSClient, request: pytest.FixtureRequest) -> Iterator[str]:
    url = client.create_queue(QueueName="dead-letters")["QueueUrl"]
    yield url
    client.delete_queue(QueueUrl=url)


@pytest.fixture
def queue(client: SQSClient, dead_letters: str) -> Iterator[str]:
    """A queue whose messages move to `dead_letters` after two receives."""
    arn = client.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    url = client.create_queue(QueueName="events", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    yield url
    client.delete_queue(QueueUrl=url)


@pytest.fixture
def bare_queue(client: SQSClient) -> Iterator[str]:
    """A queue without a redrive policy."""
    url = client.create_queue(QueueName="bare")["QueueUrl"]
    yield url
    client.delete_queue(QueueUrl=url)


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def concerns(bucket: str, key: str) -> bool:
    return (bucket, key) == (BUCKET, KEY)


def s3_event(*keys: str, bucket: str = BUCKET) -> str:
    """An event as in the documentation of S3; `keys` are already encoded."""
    records = [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": {"key": key, "size": 1, "eTag": "e"}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def event_bridge(key: str, kind: str = "Object Created") -> str:
    return json.dumps(
        {
            "version": "0",
            "detail-type": kind,
            "source": "aws.s3",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
        }
    )


def in_sns(message: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": message, "Signature": "s"})


S3_TEST = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00.000Z", "Bucket": BUCKET})
POISON = "no JSON at all: " + "毒" * 300


def count(client: SQSClient, url: str) -> int:
    """The messages in a queue, including those in flight."""
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (s3_event("a.yaml", "b.yaml"), [(BUCKET, "a.yaml"), (BUCKET, "b.yaml")]),
        (s3_event("kcbert/my+new%2Bmodel/%EA%B0%80%3D1.yaml"), [(BUCKET, "kcbert/my new+model/가=1.yaml")]),
        (in_sns(s3_event("a+b")), [(BUCKET, "a b")]),
        (event_bridge("a+b%20c"), [(BUCKET, "a+b%20c")]),
        (event_bridge("a", "Object Deleted"), [(BUCKET, "a")]),
        (in_sns(event_bridge("a+b")), [(BUCKET, "a+b")]),
        (S3_TEST, []),
        (in_sns(S3_TEST), []),
    ],
)
def test_the_places_of_a_message(body: str, places: list[tuple[str, str]]) -> None:
    assert changed_places(body) == places


@pytest.mark.parametrize(
    "body",
    [
        "", "no JSON", "null", "[]", "{}", '{"Records": [{"s3": {}}]}', '{"Records": [{"ses": {}}]}', '{"Event": "another"}',
        in_sns("no JSON"), in_sns("{}"), event_bridge("a", "EC2 Instance State-change Notification"),
        "[" * 100_000, '{"Type": "SubscriptionConfirmation", "Message": "{}"}',
    ],
)  # fmt: skip
def test_any_other_message_has_an_unknown_format(body: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        changed_places(body)


@pytest.mark.parametrize("body", [s3_event("other", "kcbert%2Flatest_model.yaml"), in_sns(s3_event(KEY)), event_bridge(KEY)])
def test_a_relevant_message_requests_a_sync_and_is_deleted(
    client: SQSClient, queue: str, stop: threading.Event, body: str
) -> None:
    client.send_message(QueueUrl=queue, MessageBody=body)
    syncs = FakeSyncRequests("promoted")
    with running(SqsTrigger(syncs, queue, concerns, stop, client, models=("yolo", "kcbert"), timing=FAST).run, stop):
        wait_until(lambda: count(client, queue) == 0)
    assert syncs.calls == [("sqs", ("yolo", "kcbert"), False)]


def test_an_irrelevant_message_is_deleted_without_a_sync(client: SQSClient, queue: str, stop: threading.Event) -> None:
    for body in (S3_TEST, s3_event("readme.txt"), s3_event(KEY, bucket="another"), s3_event()):
        client.send_message(QueueUrl=queue, MessageBody=body)
    syncs = FakeSyncRequests()
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: count(client, queue) == 0)
    assert syncs.calls == []


def test_a_thousand_messages_share_few_syncs(client: SQSClient, queue: str, stop: threading.Event) -> None:
    bodies = [s3_event(KEY), in_sns(s3_event(KEY)), event_bridge(KEY), s3_event("readme.txt"), s3_event(KEY)]
    for first in range(0, 1000, 10):
        client.send_message_batch(
            QueueUrl=queue,
            Entries=[{"Id": str(number), "MessageBody": bodies[number % 5]} for number in range(first, first + 10)],
        )
    syncs = FakeSyncRequests()
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=replace(FAST, drain=2)).run, stop):
        wait_until(lambda: count(client, queue) == 0, seconds=60, interval=0.5)  # each call scans the whole queue
    assert 1 <= len(syncs.calls) <= 40  # of 800 messages; on a busy machine, the emulator takes a minute for them


def test_a_message_stays_after_a_retryable_outcome(client: SQSClient, queue: str, stop: threading.Event) -> None:
    client.send_message(QueueUrl=queue, MessageBody=s3_event(KEY))
    syncs = FakeSyncRequests("unreachable", hold=True)
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: syncs.pending)
        syncs.pending[0].end()
        wait_until(lambda: len(syncs.pending) == 2)
        assert count(client, queue) == 1
        syncs.pending[1].end()
        wait_until(lambda: count(client, queue) == 0)


def test_a_message_stays_hidden_during_a_long_sync(
    client: SQSClient, queue: str, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000 * time.time()]  # of the queue: a machine that stands still for seconds shows no message
    monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: now[0])
    extended: list[float] = []
    client.meta.events.register("after-call.sqs.ChangeMessageVisibilityBatch", lambda **_: extended.append(now[0]))

    def wait_for_extension() -> None:
        before = len(extended)
        wait_until(lambda: len(extended) > before + 1)  # the first may have been under way

    client.send_message(QueueUrl=queue, MessageBody=s3_event(KEY))
    syncs = FakeSyncRequests(hold=True)
    timing = replace(FAST, visibility=2, extend=0.01)
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=timing).run, stop):
        wait_until(lambda: syncs.pending)
        for _ in range(5):
            now[0] += 1000
            wait_for_extension()
            assert "Messages" not in client.receive_message(QueueUrl=queue, WaitTimeSeconds=0)
        syncs.pending[0].end()
        wait_until(lambda: count(client, queue) == 0)
    assert len(syncs.pending) == 1


def test_with_a_redrive_policy_a_poison_message_moves_to_the_dead_letters(
    client: SQSClient, queue: str, dead_letters: str, stop: threading.Event
) -> None:
    for body in (POISON, s3_event(KEY)):
        client.send_message(QueueUrl=queue, MessageBody=body)
    syncs = FakeSyncRequests()
    with logged() as lines, running(SqsTrigger(syncs, queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: count(client, queue) == 0)
        wait_until(lambda: count(client, dead_letters) == 1)
    assert len(syncs.calls) == 1
    assert [line.split(":")[0] for line in lines] == [
        f"WARNING A message that is not an S3 event stays in the queue, receive {number}" for number in (1, 2)
    ]
    assert repr(POISON[:200]) in lines[0]
    assert POISON[:201] not in lines[0]


def test_without_a_redrive_policy_a_poison_message_is_deleted_and_logged_at_the_fifth_receive(
    client: SQSClient, bare_queue: str, stop: threading.Event
) -> None:
    client.send_message(QueueUrl=bare_queue, MessageBody=POISON)
    with logged() as lines, running(SqsTrigger(FakeSyncRequests(), bare_queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: count(client, bare_queue) == 0)
    assert lines[0].startswith("WARNING")
    assert "has no RedrivePolicy" in lines[0]
    assert sum("stays in the queue" in line for line in lines) == 4
    assert lines[-1].startswith("ERROR")
    assert repr(POISON) in lines[-1]


def reject(client: SQSClient, monkeypatch: pytest.MonkeyPatch, method: str, code: str) -> list[int]:
    """Make `method` of `client` raise; returns a list that grows with each call."""
    calls: list[int] = []

    def raising(**_: object) -> None:
        calls.append(1)
        raise ClientError({"Error": {"Code": code, "Message": "No."}}, method)

    monkeypatch.setattr(client, method, raising)
    return calls


def test_a_poison_message_stays_if_the_redrive_policy_may_not_be_read(
    client: SQSClient, bare_queue: str, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.send_message(QueueUrl=bare_queue, MessageBody=POISON)
    trigger_client = connect(client.meta.endpoint_url)
    reject(trigger_client, monkeypatch, "get_queue_attributes", "AccessDenied")
    trigger = SqsTrigger(FakeSyncRequests(), bare_queue, concerns, stop, trigger_client, timing=FAST)
    with logged() as lines, running(trigger.run, stop):
        wait_until(lambda: sum("stays in the queue" in line for line in lines) > 6)
    assert "Allow sqs:GetQueueAttributes" in lines[0]
    assert trigger.problem is None
    assert count(client, bare_queue) == 1
    trigger_client.close()


def test_a_problem_is_logged_once_and_says_what_to_do(
    client: SQSClient, queue: str, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = reject(client, monkeypatch, "receive_message", "AccessDenied")
    trigger = SqsTrigger(FakeSyncRequests(), queue, concerns, stop, client, timing=FAST)
    with logged() as lines, running(trigger.run, stop):
        wait_until(lambda: len(calls) > 3)
    [line] = lines
    assert trigger.problem is not None
    assert line == f"ERROR {trigger.problem}\n"
    assert "Allow sqs:ReceiveMessage" in line


def test_a_missing_queue_is_a_problem(client: SQSClient, bare_queue: str, stop: threading.Event) -> None:
    trigger = SqsTrigger(FakeSyncRequests(), f"{bare_queue}-no", concerns, stop, client, timing=FAST)
    with running(trigger.run, stop):
        wait_until(lambda: trigger.problem)
    assert "Check the queue's URL" in str(trigger.problem)


def test_messages_are_processed_when_sqs_is_available_again(client: SQSClient, queue: str, stop: threading.Event) -> None:
    client.send_message(QueueUrl=queue, MessageBody=s3_event(KEY))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    unreachable = connect(f"http://127.0.0.1:{port}")
    syncs = FakeSyncRequests()
    trigger = SqsTrigger(syncs, queue, concerns, stop, unreachable, timing=FAST)
    with logged() as lines, running(trigger.run, stop) as thread:
        wait_until(lambda: trigger.problem)
        assert "Could not connect" in str(trigger.problem)
        with emulator(port):
            wait_until(lambda: count(client, queue) == 0)
            wait_until(lambda: trigger.problem is None)
            stop.set()
            thread.join(2)  # a poll during the shutdown of the server would be the next problem
    assert len(syncs.calls) == 1
    assert lines[-1] == f"INFO The queue {queue} can be used again\n"
    unreachable.close()


def test_the_pauses_after_errors_double(client: SQSClient, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            if len(pauses) == 8:
                self.set()
            return True

    reject(client, monkeypatch, "receive_message", "AccessDenied")
    SqsTrigger(FakeSyncRequests(), queue, concerns, Stop(), client).run()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_bug_does_not_end_the_thread(client: SQSClient, bare_queue: str, stop: threading.Event) -> None:
    client.send_message(QueueUrl=bare_queue, MessageBody=s3_event("first"))
    keys: list[str] = []

    def faulty(_: str, key: str) -> bool:
        keys.append(key)
        if len(keys) == 1:
            raise ZeroDivisionError
        return False

    trigger = SqsTrigger(FakeSyncRequests(), bare_queue, faulty, stop, client, timing=replace(FAST, visibility=1))
    with logged() as lines, running(trigger.run, stop):
        wait_until(lambda: count(client, bare_queue) == 0)
    assert any("Traceback" in line and "because of a bug: ZeroDivisionError()" in line for line in lines)


@pytest.mark.parametrize(("rejections", "left"), [(1, 0), (2, 1)], ids=["once", "twice"])
def test_a_failed_deletion_is_retried_once_and_then_logged(
    client: SQSClient, bare_queue: str, stop: threading.Event, monkeypatch: pytest.MonkeyPatch, rejections: int, left: int
) -> None:
    for _ in range(3):
        client.send_message(QueueUrl=bare_queue, MessageBody=s3_event(KEY))
    delete: Callable[..., Any] = client.delete_message_batch
    tried: list[int] = []

    def failing(*, QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803 (boto3's names)
        """Fails for the first message of the first calls."""
        tried.append(len(Entries))
        if len(tried) > rejections:
            return delete(QueueUrl=QueueUrl, Entries=Entries)
        failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in Entries[:1]]
        return {**delete(QueueUrl=QueueUrl, Entries=Entries[1:]), "Failed": failed} if Entries[1:] else {"Failed": failed}

    monkeypatch.setattr(client, "delete_message_batch", failing)
    syncs = FakeSyncRequests()
    with logged() as lines, running(SqsTrigger(syncs, bare_queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: len(tried) == 2 and count(client, bare_queue) == left)
    assert tried == [3, 1]
    assert sum("could not be deleted and will be received again" in line for line in lines) == left


def test_a_message_stays_if_the_trigger_stops_during_the_sync(client: SQSClient, queue: str, stop: threading.Event) -> None:
    client.send_message(QueueUrl=queue, MessageBody=s3_event(KEY))
    syncs = FakeSyncRequests(hold=True)
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=FAST).run, stop):
        wait_until(lambda: syncs.pending)
    syncs.pending[0].end()
    assert count(client, queue) == 1


def test_messages_of_the_last_poll_stay_after_the_stop(client: SQSClient, queue: str, stop: threading.Event) -> None:
    syncs = FakeSyncRequests()
    with running(SqsTrigger(syncs, queue, concerns, stop, client, timing=replace(FAST, poll=1)).run, stop) as thread:
        time.sleep(0.2)  # until it polls
        stop.set()
        client.send_message(QueueUrl=queue, MessageBody=s3_event(KEY))
        thread.join(2)
    assert syncs.calls == []
    assert count(client, queue) == 1


URL = "https://sqs.ap-northeast-2.amazonaws.com/123456789012/events"


@pytest.fixture
def no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.mark.usefixtures("no_aws_settings")
def test_the_region_is_that_of_boto3_or_else_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    client = queue_client(URL)
    assert client.meta.region_name == "ap-northeast-2"
    assert client.meta.endpoint_url == "https://sqs.ap-northeast-2.amazonaws.com"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9324")
    client = queue_client(URL)
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:9324"


@pytest.mark.usefixtures("no_aws_settings")
def test_an_unknown_region_is_an_error() -> None:
    with pytest.raises(ValueError, match="Set AWS_DEFAULT_REGION"):
        queue_client("http://127.0.0.1:9324/queue/events")
