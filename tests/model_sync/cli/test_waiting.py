from __future__ import annotations

import threading

import pytest

from model_sync.cli import waiting
from model_sync.cli.waiting import run_with_progress


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PROGRESS_SECONDS", 0.02)


def test_the_result_is_returned_and_progress_is_called_meanwhile() -> None:
    calls = 0
    enough = threading.Event()

    def work() -> int:
        assert enough.wait(10)
        return 7

    def progress() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            enough.set()

    assert run_with_progress(work, progress) == 7
    assert calls >= 2


def test_an_error_of_the_work_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_with_progress(fail, lambda: None)


def test_interrupted_work_is_stopped_and_waited_for() -> None:
    stopping, ended = threading.Event(), threading.Event()

    def work() -> None:
        stopping.wait(10)
        ended.set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with_progress(work, interrupt, stopping)
    assert ended.is_set()
