from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Trigger
from model_sync.errors import SyncCancelledError
from model_sync.syncing.queue import SyncQueue, SyncQueues
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome

SECONDS = 5.0


class FakeSync:
    """Notes who asked; a look waits until `open` is set."""

    def __init__(self) -> None:
        self.syncs: list[tuple[Trigger, bool]] = []
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, by: Trigger, *, force: bool) -> Outcome:
        self.syncs.append((by, force))
        self.begun.release()
        self.open.wait(SECONDS)
        if self.error:
            raise self.error
        return Outcome("yolo", "promoted", version=f"v{len(self.syncs)}")


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
def looks(fake: FakeSync, report: Report) -> Iterator[SyncQueues]:
    queue = SyncQueue("yolo", fake, report)
    with running(queue):
        yield SyncQueues([queue])
        fake.open.set()


def test_a_look_has_an_outcome(syncs: SyncQueues, fake: FakeSync, report: Report) -> None:
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "promoted", version="v1")}
    assert fake.looks == [("poll", False)]
    told = report.state().models["yolo"]
    assert (told.status, told.version) == ("promoted", "v1")
    assert told.synced_at


def test_an_outcome_that_is_not_there_yet_is_none(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    asked = syncs.request("poll")
    assert asked.wait(0.01) is None
    fake.open.set()
    assert asked.wait(SECONDS)


def test_many_that_ask_during_a_look_share_the_next(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    first = syncs.request("poll")
    assert fake.begun.acquire(timeout=SECONDS)
    others = [syncs.request("sqs") for _ in range(100)]
    fake.open.set()
    assert first.wait(SECONDS)
    assert {found["yolo"].version for other in others if (found := other.wait(SECONDS))} == {"v2"}
    assert fake.looks == [("poll", False), ("sqs", False)]


def test_what_a_person_asks_is_a_persons_look(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.open.clear()
    syncs.request("poll")
    assert fake.begun.acquire(timeout=SECONDS)
    syncs.request("sqs")
    syncs.request("operator", force=True)
    last = syncs.request("poll")
    fake.open.set()
    assert last.wait(SECONDS)
    assert fake.looks[1] == ("operator", True)


def test_only_the_models_that_were_named_are_looked_at(fake: FakeSync, report: Report) -> None:
    other = FakeSync()
    lines = [SyncQueue("yolo", fake, report), SyncQueue("kcbert", other, report)]
    with ExitStack() as stack:
        for queue in lines:
            stack.enter_context(running(queue))
        found = SyncQueues(lines).request("operator", ["kcbert", "sentiment"]).wait(SECONDS)
    assert found is not None
    assert found["kcbert"].status == "promoted"
    assert found["sentiment"].reason == "no registry is configured for it"
    assert fake.looks == []


def test_an_exception_is_an_outcome_and_the_line_goes_on(syncs: SyncQueues, fake: FakeSync) -> None:
    fake.error = RuntimeError("a bug")
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "failed", reason="RuntimeError: a bug")}
    fake.error = None
    assert syncs.request("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "promoted", version="v2")}


def test_the_end_of_the_sidecar_ends_the_line(report: Report, fake: FakeSync) -> None:
    fake.error = SyncCancelledError()
    queue = SyncQueue("yolo", fake, report)
    thread = threading.Thread(target=queue.run)
    thread.start()
    queue.request("poll", force=False)
    thread.join(SECONDS)
    assert not thread.is_alive()
