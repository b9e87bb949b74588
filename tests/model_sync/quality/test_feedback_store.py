from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.testing.paths import ROOT
from bunriwiki.web.tickets import Ticket
from model_sync.quality import feedback_store as store_module
from model_sync.quality.accuracy import Rated, calibration_error
from model_sync.quality.feedback_store import DAY, FeedbackStore, TicketUsedError, TooManyTicketsError

NUMBERS = itertools.count()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def ticket(
    *labels: tuple[str, float], version: str = "v1", model: str = "sentiment", request: str = "r", expires: int = 2_000_000
) -> Ticket:
    return Ticket(model, version, list(labels), request, b"process", next(NUMBERS), expires)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FeedbackStore]:
    store = FeedbackStore(tmp_path / "quality" / "feedback.db", clock)
    yield store
    store.close()


def test_an_answer_is_right_if_it_names_exactly_what_is_right(store: FeedbackStore) -> None:
    assert store.add(ticket(("긍정", 0.9)), ["긍정"], known=True)
    assert not store.add(ticket(("긍정", 0.9)), ["부정"], known=True)
    found = [("can", 0.9), ("glass", 0.4)]
    assert store.add(ticket(*found, model="yolo"), ["glass", "can", "can"], known=True)
    for right in (["can"], ["can", "glass", "paper"], []):
        assert not store.add(ticket(*found, model="yolo"), right, known=True)
    assert store.add(ticket(model="yolo"), [], known=True)  # nothing found, and nothing there
    assert store.rated("sentiment", "v1", 0) == Rated(2, 1)
    assert store.rated("yolo", "v1", 0) == Rated(5, 2)


def test_a_ticket_is_valid_once(store: FeedbackStore) -> None:
    once = ticket(("긍정", 0.9))
    store.add(once, ["긍정"], known=False)
    with pytest.raises(TicketUsedError):
        store.add(once, ["긍정"], known=True)
    assert store.rated("sentiment", "v1", 0) == Rated()
    assert store.totals() == {("sentiment", "v1", False): 1}


def test_of_parallel_votes_with_one_ticket_one_counts(store: FeedbackStore) -> None:
    once, rejected = ticket(("긍정", 0.9)), []

    def vote() -> None:
        try:
            store.add(once, ["긍정"], known=True)
        except TicketUsedError as error:
            rejected.append(error)

    threads = [threading.Thread(target=vote) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rejected) == 7
    assert store.rated("sentiment", "v1", 0) == Rated(1, 1)


def test_quality_is_by_version_and_kind(store: FeedbackStore, clock: Clock) -> None:
    store.add(ticket(("긍정", 0.95)), ["부정"], known=True)
    clock.now += 100
    for right in ("긍정", "부정"):
        store.add(ticket(("긍정", 0.8)), [right], known=True)
    store.add(ticket(("긍정", 1.0)), ["긍정"], known=False)
    store.add(ticket(("can", 0.5), ("glass", 0.3), version="v2", model="yolo"), ["can"], known=True)
    found = {(each.model, each.version, each.known): each for each in store.quality(clock.now - 50)}
    assert {key: each.rated for key, each in found.items()} == {
        ("sentiment", "v1", True): Rated(2, 1),
        ("sentiment", "v1", False): Rated(1, 1),
        ("yolo", "v2", True): Rated(1, 0),
    }
    assert calibration_error(found["sentiment", "v1", True].bins) == pytest.approx(0.3)
    assert calibration_error(found["sentiment", "v1", False].bins) == 0
    assert calibration_error(found["yolo", "v2", True].bins) == pytest.approx((0.5 + 0.3) / 2)
    assert store.rated("sentiment", "v1", 0) == Rated(3, 1)


def test_quality_over_time(store: FeedbackStore, clock: Clock) -> None:
    for right in ("긍정", "부정"):
        store.add(ticket(("긍정", 0.8)), [right], known=True)
        clock.now += DAY
    assert [(each.day, each.rated) for each in store.by_day()] == [
        ("1970-01-12", Rated(1, 1)),
        ("1970-01-13", Rated(1, 0)),
    ]


def test_feedback_is_deleted_by_request_and_its_ticket_stays_used(store: FeedbackStore, tmp_path: Path) -> None:
    mine = ticket(("긍정", 0.9), request="a-very-particular-request")
    store.add(mine, ["긍정"], known=True)
    store.add(ticket(("긍정", 0.9), request="another"), ["긍정"], known=True)
    assert store.forget("a-very-particular-request") == 1
    content = b"".join(path.read_bytes() for path in (tmp_path / "quality").iterdir())
    assert b"a-very-particular-request" not in content
    assert b"another" in content
    assert store.forget("a-very-particular-request") == 0
    assert store.rated("sentiment", "v1", 0) == Rated(1, 1)
    assert [each.rated for each in store.quality(0)] == [Rated(1, 1)]
    with pytest.raises(TicketUsedError):
        store.add(mine, ["긍정"], known=True)


def test_retention(store: FeedbackStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_ROWS", 3)
    old = ticket(("긍정", 0.9), expires=int(clock.now + 10))
    store.add(old, ["긍정"], known=True)
    clock.now += 2 * DAY
    for _ in range(5):
        store.add(ticket(("긍정", 0.9)), ["긍정"], known=False)
    for _ in range(2):
        store.add(ticket(("긍정", 0.9)), ["부정"], known=True)
    store.prune(days=1)
    assert {each.known: each.rated for each in store.quality(0)} == {True: Rated(2, 0), False: Rated(3, 3)}
    assert store.totals() == {("sentiment", "v1", True): 3, ("sentiment", "v1", False): 5}  # what a counter shows never falls
    assert store.add(old, ["긍정"], known=True)  # its nonce was deleted: the ticket's own date rejects it


def test_used_tickets_are_bounded(store: FeedbackStore, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_USED", 2)
    for _ in range(2):
        store.add(ticket(("긍정", 0.9), expires=int(clock.now + 10)), ["긍정"], known=True)
    with pytest.raises(TooManyTicketsError):
        store.add(ticket(("긍정", 0.9)), ["긍정"], known=True)
    clock.now += 11
    store.prune(days=1)
    store.add(ticket(("긍정", 0.9)), ["긍정"], known=True)


def test_a_damaged_database_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 50)
    store = FeedbackStore(path, Clock())
    store.add(ticket(("긍정", 0.9)), ["긍정"], known=True)
    store.close()
    assert (tmp_path / "feedback.db.damaged-1000000").read_bytes().startswith(b"this is no database")


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "feedback.db").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        FeedbackStore(tmp_path / "feedback.db")
    assert (tmp_path / "feedback.db").is_dir()


PROGRAM = """
import sys
from pathlib import Path
from bunriwiki.web.tickets import Ticket
from model_sync.quality.feedback_store import FeedbackStore
store = FeedbackStore(Path(sys.argv[1]))
for number in range(1_000_000):
    store.add(Ticket("sentiment", "v1", [("a", 0.5)], "", b"process", number, 2**40), ["a"], known=True)
    print(number + 1, flush=True)
"""


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    for kill in range(3):
        path = tmp_path / f"{kill}.db"
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        accepted = 0
        while accepted < 20 + kill:
            accepted = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        accepted = max([accepted, *(int(line) for line in process.stdout if line.strip())])
        process.wait()
        process.stdout.close()
        store = FeedbackStore(path)
        [found] = store.quality(0)
        assert found.rated.answers in (accepted, accepted + 1)  # the last one may not have been printed
        assert sum(each.named for each in found.bins) == found.rated.answers
        assert store.totals() == {("sentiment", "v1", True): found.rated.answers}
        store.close()
