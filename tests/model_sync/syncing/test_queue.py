from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Asker
from model_sync.sandbox.run import StoppedError
from model_sync.syncing.queue import Line, Lines
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome

SECONDS = 5.0


class Looker:
    """Notes who asked; a look waits until `open` is set."""

    def __init__(self) -> None:
        self.looks: list[tuple[Asker, bool]] = []
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, by: Asker, *, force: bool) -> Outcome:
        self.looks.append((by, force))
        self.begun.release()
        self.open.wait(SECONDS)
        if self.error:
            raise self.error
        return Outcome("yolo", "swapped", version=f"v{len(self.looks)}")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "sync.json", {"yolo": "here", "kcbert": "there"})


@contextmanager
def running(line: Line) -> Iterator[None]:
    thread = threading.Thread(target=line.run)
    thread.start()
    yield
    line.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.fixture
def looker() -> Looker:
    return Looker()


@pytest.fixture
def looks(looker: Looker, report: Report) -> Iterator[Lines]:
    line = Line("yolo", looker, report)
    with running(line):
        yield Lines([line])
        looker.open.set()


def test_a_look_has_an_outcome(looks: Lines, looker: Looker, report: Report) -> None:
    assert looks.look("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "swapped", version="v1")}
    assert looker.looks == [("poll", False)]
    told = report.state().models["yolo"]
    assert (told.verdict, told.version) == ("swapped", "v1")
    assert told.looked


def test_an_outcome_that_is_not_there_yet_is_none(looks: Lines, looker: Looker) -> None:
    looker.open.clear()
    asked = looks.look("poll")
    assert asked.wait(0.01) is None
    looker.open.set()
    assert asked.wait(SECONDS)


def test_many_that_ask_during_a_look_share_the_next(looks: Lines, looker: Looker) -> None:
    looker.open.clear()
    first = looks.look("poll")
    assert looker.begun.acquire(timeout=SECONDS)
    others = [looks.look("sqs") for _ in range(100)]
    looker.open.set()
    assert first.wait(SECONDS)
    assert {found["yolo"].version for other in others if (found := other.wait(SECONDS))} == {"v2"}
    assert looker.looks == [("poll", False), ("sqs", False)]


def test_what_a_person_asks_is_a_persons_look(looks: Lines, looker: Looker) -> None:
    looker.open.clear()
    looks.look("poll")
    assert looker.begun.acquire(timeout=SECONDS)
    looks.look("sqs")
    looks.look("person", force=True)
    last = looks.look("poll")
    looker.open.set()
    assert last.wait(SECONDS)
    assert looker.looks[1] == ("person", True)


def test_only_the_models_that_were_named_are_looked_at(looker: Looker, report: Report) -> None:
    other = Looker()
    lines = [Line("yolo", looker, report), Line("kcbert", other, report)]
    with ExitStack() as stack:
        for line in lines:
            stack.enter_context(running(line))
        found = Lines(lines).look("person", ["kcbert", "sentiment"]).wait(SECONDS)
    assert found is not None
    assert found["kcbert"].verdict == "swapped"
    assert found["sentiment"].reason == "no registry feeds it"
    assert looker.looks == []


def test_an_exception_is_an_outcome_and_the_line_goes_on(looks: Lines, looker: Looker) -> None:
    looker.error = RuntimeError("a bug")
    assert looks.look("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "failed", reason="RuntimeError: a bug")}
    looker.error = None
    assert looks.look("poll").wait(SECONDS) == {"yolo": Outcome("yolo", "swapped", version="v2")}


def test_the_end_of_the_sidecar_ends_the_line(report: Report, looker: Looker) -> None:
    looker.error = StoppedError()
    line = Line("yolo", looker, report)
    thread = threading.Thread(target=line.run)
    thread.start()
    line.ask("poll", force=False)
    thread.join(SECONDS)
    assert not thread.is_alive()
