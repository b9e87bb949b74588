from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Trigger
from bunriwiki.model_store.history import ACTING_TOKEN
from bunriwiki.testing.waiting import wait_until
from model_sync.errors import SyncCancelledError
from model_sync.syncing.queue import SyncQueue, SyncQueues
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome

SECONDS = 5.0


class FakeSync:
    """Records its calls; a sync waits until `open` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[Trigger, bool]] = []
        self.tokens: list[str | None] = []
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, by: Trigger, *, force: bool) -> Outcome:
        self.calls.append((by, force))
        self.tokens.append(ACTING_TOKEN.get())
        self.begun.release()
        self.open.wait(SECONDS)
        if self.error:
            raise self.error
        return Outcome("yolo", "promoted", version=f"v{len(self.calls)}")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "sync.json", {"yolo": "here", "kcbert": "there"})


@contextmanager
def running(queue: SyncQueue) -> Iterator[None]:
    thread = threading.Thread(target=queue.run)
    thread.start()
    yield
    queue.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.fixture
def fake() -> FakeSync:
    return FakeSync()


@pytest.fixture
def syncs(fake: FakeSync, report: Report) -> Iterator[SyncQueues]:
    queue = SyncQueue("yolo", fake, report)
    with running(queue):
        yield SyncQueues([queue])
        fake.open.set()


def test_a_sync_has_an_outcome(syncs: SyncQueues, fake: FakeSync, report: Report) -> None:
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "promoted", version="v1")}
    assert fake.calls == [("poll", False)]
    state = report.state().models["yolo"]
    assert (state.status, state.version) == ("promoted", "v1")
    assert state.synced_at


def test_wait_returns_none_before_the_sync_finishes(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    pending = syncs.request("poll")
    assert pending.wait(0.01) is None
    fake.open.set()
    assert pending.wait(SECONDS)


def test_requests_during_a_sync_share_the_next_sync(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    first = syncs.request("poll")
    assert fake.begun.acquire(timeout=SECONDS)
    others = [syncs.request("sqs") for _ in range(100)]
    fake.open.set()
    assert first.wait(SECONDS)
    assert {found["yolo"].version for other in others if (found := other.wait(SECONDS))} == {"v2"}
    assert fake.calls == [("poll", False), ("sqs", False)]


def test_a_request_by_an_operator_determines_the_trigger_of_the_shared_sync(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    syncs.request("poll")
    assert fake.begun.acquire(timeout=SECONDS)
    syncs.request("sqs")
    syncs.request("operator", force=True)
    last = syncs.request("poll")
    fake.open.set()
    assert last.wait(SECONDS)
    assert fake.calls[1] == ("operator", True)


def test_only_the_named_models_are_synced(fake: FakeSync, report: Report) -> None:
    other = FakeSync()
    queues = [SyncQueue("yolo", fake, report), SyncQueue("kcbert", other, report)]
    with ExitStack() as stack:
        for queue in queues:
            stack.enter_context(running(queue))
        outcomes = SyncQueues(queues).request("operator", ["kcbert", "sentiment"]).wait(SECONDS)
    assert outcomes is not None
    assert outcomes["kcbert"].status == "promoted"
    assert outcomes["sentiment"].reason == "no registry is configured for it"
    assert fake.calls == []


def test_an_exception_is_an_outcome_and_the_queue_continues(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.error = RuntimeError("a bug")
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "failed", reason="RuntimeError: a bug")}
    fake.error = None
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "promoted", version="v2")}


def test_a_cancelled_sync_ends_the_queue(report: Report, fake: FakeSync) -> None:
    fake.error = SyncCancelledError()
    queue = SyncQueue("yolo", fake, report)
    thread = threading.Thread(target=queue.run)
    thread.start()
    queue.request("poll", force=False)
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_an_undecided_import_is_tried_again_without_a_request(report: Report) -> None:
    outcomes = [
        Outcome("yolo", "undecided", "v1", "it was late", retry_seconds=0.01),
        Outcome("yolo", "undecided", "v1", "it was late", retry_seconds=0.01),
        Outcome("yolo", "promoted", "v1"),
    ]
    calls: list[Trigger] = []

    def sync(by: Trigger, *, force: bool) -> Outcome:
        calls.append(by)
        return outcomes[len(calls) - 1]

    queue = SyncQueue("yolo", sync, report)
    with running(queue):
        pending = SyncQueues([queue]).request("sqs")
        assert pending.wait(SECONDS)
        wait_until(lambda: report.state().models["yolo"].status == "promoted")
    assert calls == ["sqs", "poll", "poll"]


def test_the_depth_counts_the_requests_that_no_sync_has_finished(report: Report) -> None:
    queue = SyncQueue("yolo", FakeSync(), report)
    numbers = [queue.request("poll", force=False) for _ in range(3)]
    assert queue.depth() == 3
    with running(queue):
        assert queue.wait(numbers[-1], time.monotonic() + SECONDS)
        assert queue.depth() == 0  # one sync covers them all


def test_a_sync_acts_with_the_token_of_the_operator_who_requested_it(fake: FakeSync, report: Report) -> None:
    queue = SyncQueue("yolo", fake, report)

    def request(by: Trigger, token: str | None) -> int:
        context = copy_context()
        context.run(ACTING_TOKEN.set, token)
        return context.run(lambda: queue.request(by, force=False))

    with running(queue):
        requests: list[tuple[Trigger, str | None]] = [
            ("operator", "one"), ("poll", None), ("operator", "two"), ("webhook", "three"),
        ]  # fmt: skip
        for by, token in requests:
            assert queue.wait(request(by, token), time.monotonic() + SECONDS)
    assert fake.calls == [("operator", False), ("poll", False), ("operator", False), ("webhook", False)]
    assert fake.tokens == ["one", None, "two", None]


def test_of_requests_that_share_a_sync_the_operators_counts(fake: FakeSync, report: Report) -> None:
    queue = SyncQueue("yolo", fake, report)
    context = copy_context()
    context.run(ACTING_TOKEN.set, "one")
    queue.request("poll", force=False)
    context.run(lambda: queue.request("operator", force=False))
    number = queue.request("poll", force=False)
    with running(queue):
        assert queue.wait(number, time.monotonic() + SECONDS)
    assert (fake.calls, fake.tokens) == ([("operator", False)], ["one"])
