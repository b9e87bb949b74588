from __future__ import annotations

import random
import threading
from itertools import repeat

import pytest

from model_sync.syncing.requests import Verdict
from model_sync.triggers.clock import Clock
from tests.model_sync.triggers.fakes import FakeSyncRequests, eventually, running


class Pauses(threading.Event):
    """A `stop` that comes after as many pauses, which take no time and are noted."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        return len(self.seconds) == self._most


class Even(random.Random):
    """Chance that moves nothing."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def pauses(syncs: FakeSyncRequests, most: int, interval: float = 300, chance: random.Random | None = None) -> list[float]:
    stop = Pauses(most)
    Clock(syncs, interval, stop, chance=chance or Even()).run()
    return stop.seconds


def test_it_looks_at_everything_after_each_interval() -> None:
    syncs = FakeSyncRequests()
    assert pauses(syncs, 4) == [300] * 4
    assert syncs.calls == [("poll", None, False)] * 3


@pytest.mark.parametrize("status", ["unreachable", "failed"])
def test_after_what_another_look_may_mend_the_next_comes_sooner_and_then_later_up_to_the_interval(status: Verdict) -> None:
    syncs = FakeSyncRequests(*repeat(status, 8), "promoted", status)
    assert pauses(syncs, 11) == [300, 5, 10, 20, 40, 80, 160, 300, 300, 300, 5]


@pytest.mark.parametrize("status", ["unchanged", "promoted", "rejected", "pinned", "held"])
def test_what_another_look_does_not_mend_waits_for_the_interval(status: Verdict) -> None:
    assert pauses(FakeSyncRequests(status), 2) == [300, 300]


def test_with_an_interval_below_five_seconds_it_never_waits_longer() -> None:
    failed: Verdict = "failed"
    assert pauses(FakeSyncRequests(*repeat(failed, 3)), 4, interval=2) == [2] * 4


def test_an_outage_of_days_is_no_trouble() -> None:
    unreachable: Verdict = "unreachable"
    assert pauses(FakeSyncRequests(*repeat(unreachable, 2000)), 2001)[-1] == 300


def test_the_pauses_are_moved_by_a_tenth_at_most() -> None:
    seconds = pauses(FakeSyncRequests(), 200, chance=random.Random(1))
    assert 270 <= min(seconds) < 275
    assert 325 < max(seconds) <= 330


def test_the_interval_counts_from_the_end_of_a_look() -> None:
    syncs, stop = FakeSyncRequests(hold=True), threading.Event()
    with running(Clock(syncs, 0.01, stop).run, stop):
        eventually(lambda: syncs.asked)
        stop.wait(0.1)  # ten intervals
        assert len(syncs.asked) == 1
        syncs.asked[0].end()
        eventually(lambda: len(syncs.asked) == 2)


@pytest.mark.parametrize("interval", [0.01, 300], ids=["during a look", "between looks"])
def test_it_stops(interval: float) -> None:
    syncs, stop = FakeSyncRequests(hold=True), threading.Event()
    with running(Clock(syncs, interval, stop).run, stop) as thread:
        eventually(lambda: syncs.asked or interval == 300)
        stop.set()
        thread.join(1)
        assert not thread.is_alive()
