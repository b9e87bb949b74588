from __future__ import annotations

import random
import threading
from itertools import repeat

import pytest

from bunriwiki.testing.waiting import wait_until
from model_sync.syncing.requests import SyncStatus
from model_sync.triggers import clock
from model_sync.triggers.clock import Clock
from tests.model_sync.triggers.fakes import FakeSyncRequests, running


@pytest.fixture(autouse=True)
def short_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "STOP_CHECK", 0.02)


class Pauses(threading.Event):
    """A `stop` that is set after `count` pauses. The pauses take no time and are recorded."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        return len(self.seconds) == self._count


class NoJitter(random.Random):
    """Returns the mean."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def pauses(syncs: FakeSyncRequests, count: int, interval: float = 300, rng: random.Random | None = None) -> list[float]:
    stop = Pauses(count)
    Clock(syncs, interval, stop, rng=rng or NoJitter()).run()
    return stop.seconds


def test_it_requests_a_sync_of_all_models_after_each_interval() -> None:
    syncs = FakeSyncRequests()
    assert pauses(syncs, 4) == [300] * 4
    assert syncs.calls == [("poll", None, False)] * 3


@pytest.mark.parametrize("status", ["unreachable", "failed"])
def test_retries_after_a_retryable_outcome_back_off_up_to_the_interval(status: SyncStatus) -> None:
    syncs = FakeSyncRequests(*repeat(status, 8), "promoted", status)
    assert pauses(syncs, 11) == [300, 5, 10, 20, 40, 80, 160, 300, 300, 300, 5]


@pytest.mark.parametrize("status", ["unchanged", "promoted", "rejected", "pinned", "held"])
def test_other_outcomes_are_not_retried_before_the_interval(status: SyncStatus) -> None:
    assert pauses(FakeSyncRequests(status), 2) == [300, 300]


def test_a_retry_never_waits_longer_than_the_interval() -> None:
    failed: SyncStatus = "failed"
    assert pauses(FakeSyncRequests(*repeat(failed, 3)), 4, interval=2) == [2] * 4


def test_the_pause_stays_bounded_in_an_outage_of_days() -> None:
    unreachable: SyncStatus = "unreachable"
    assert pauses(FakeSyncRequests(*repeat(unreachable, 2000)), 2001)[-1] == 300


def test_the_jitter_is_at_most_a_tenth() -> None:
    seconds = pauses(FakeSyncRequests(), 200, rng=random.Random(1))
    assert 270 <= min(seconds) < 275
    assert 325 < max(seconds) <= 330


def test_the_interval_starts_at_the_end_of_a_sync() -> None:
    syncs, stop = FakeSyncRequests(hold=True), threading.Event()
    with running(Clock(syncs, 0.01, stop).run, stop):
        wait_until(lambda: syncs.pending)
        stop.wait(0.1)  # ten intervals
        assert len(syncs.pending) == 1
        syncs.pending[0].end()
        wait_until(lambda: len(syncs.pending) == 2)


@pytest.mark.parametrize("interval", [0.01, 300], ids=["during a sync", "between syncs"])
def test_it_stops(interval: float) -> None:
    syncs, stop = FakeSyncRequests(hold=True), threading.Event()
    with running(Clock(syncs, interval, stop).run, stop) as thread:
        wait_until(lambda: syncs.pending or interval == 300)
        stop.set()
        thread.join(1)
        assert not thread.is_alive()
