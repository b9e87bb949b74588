from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from bunriwiki.model_store.generation import CancelledImport
from bunriwiki.testing.waiting import wait_until
from model_sync.errors import ImportCancelledError, RejectedError
from model_sync.importing.cancellation import Cancellation
from model_sync.stop_event import StopEvent

V1 = CancelledImport(version="v1", digest="d1")


@pytest.fixture
def cancellation() -> Cancellation:
    return Cancellation(StopEvent())


def run(cancellation: Cancellation, until: Callable[[], object]) -> None:
    with cancellation.importing("v1", "d1"):
        until()


def test_without_an_import_there_is_nothing_to_cancel(cancellation: Cancellation) -> None:
    decisions: list[CancelledImport] = []
    assert cancellation.cancel(decisions.append) is None
    run(cancellation, lambda: None)
    assert cancellation.cancel(decisions.append) is None
    assert decisions == []


def test_a_cancelled_import_can_be_waited_for(cancellation: Cancellation) -> None:
    decisions: list[CancelledImport] = []
    with ThreadPoolExecutor() as pool:
        running: Future[None] = pool.submit(run, cancellation, lambda: cancellation.stop.wait(10))
        wait_until(lambda: cancellation.cancel(decisions.append))
        cancellation.wait(10)
        with pytest.raises(ImportCancelledError):
            running.result(0.5)
    assert decisions == [V1]


def test_the_error_of_a_cancelled_import_does_not_matter(cancellation: Cancellation) -> None:
    def rejected() -> None:
        cancellation.cancel(lambda _: None)
        raise RejectedError("it is slow")

    with pytest.raises(ImportCancelledError):
        run(cancellation, rejected)


def test_a_decision_that_fails_cancels_nothing(cancellation: Cancellation) -> None:
    def full(_: CancelledImport) -> None:
        raise OSError("No space left on device")

    def cancelled() -> None:
        with pytest.raises(OSError, match="No space left"):
            cancellation.cancel(full)

    run(cancellation, cancelled)
    assert not cancellation.stop.is_set()


def test_the_next_import_is_not_cancelled(cancellation: Cancellation) -> None:
    with pytest.raises(ImportCancelledError):
        run(cancellation, lambda: cancellation.cancel(lambda _: None))
    run(cancellation, lambda: cancellation.wait(10))  # it does not wait for an import that was not cancelled
    assert not cancellation.stop.is_set()


def test_the_end_of_the_sidecar_stops_every_import() -> None:
    stopping = StopEvent()
    cancellation = Cancellation(stopping)
    stopping.set()
    run(cancellation, lambda: None)
    assert cancellation.stop.is_set()
