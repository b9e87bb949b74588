from __future__ import annotations

import subprocess
import sys

import pytest

from bunriwiki.testing.processes import ProcessExitedError, wait_while_running
from bunriwiki.testing.waiting import WaitTimeoutError, wait_until


def test_the_value_that_was_true_is_returned() -> None:
    values = iter(["", "", "ready"])
    assert wait_until(lambda: next(values), interval=0) == "ready"


def test_what_was_there_instead_is_in_the_error() -> None:
    with pytest.raises(WaitTimeoutError, match=r"not true within 0\.01 s: \[\]"):
        wait_until(list, 0.01, interval=0)
    with pytest.raises(WaitTimeoutError, match=r"not true within 0\.01 s: two of three workers"):
        wait_until(lambda: False, 0.01, lambda: "two of three workers", interval=0)


def test_an_exception_of_the_condition_ends_the_waiting() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0)


def test_a_process_that_exits_ends_the_waiting() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(ProcessExitedError, match="exited with 3:\nits log"):
        wait_while_running(process, lambda: False, 60, lambda: "its log")
