from __future__ import annotations

import threading
import time

import pytest

from model_sync.cli.waiting import while_it_runs


def test_what_the_work_returns_is_returned_and_somebody_is_told_meanwhile() -> None:
    told: list[None] = []

    def work() -> int:
        time.sleep(0.4)
        return 7

    assert while_it_runs(work, lambda: told.append(None)) == 7
    assert len(told) >= 2


def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        while_it_runs(fail, lambda: None)


def test_work_that_is_interrupted_is_told_to_stop_and_waited_for() -> None:
    stopping, ended = threading.Event(), threading.Event()

    def work() -> None:
        stopping.wait(10)
        ended.set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        while_it_runs(work, interrupt, stopping)
    assert ended.is_set()
