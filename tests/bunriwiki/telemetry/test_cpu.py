from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from bunriwiki.telemetry import cpu
from bunriwiki.telemetry.cpu import CpuTime, waited_seconds
from bunriwiki.testing.waiting import wait_until

SPIN = "while True: pass"


def run(seconds: float) -> None:
    """Use the core for so many seconds of CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def measured(work: Callable[[], object]) -> CpuTime:
    before = CpuTime.of(os.getpid())
    work()
    return CpuTime.of(os.getpid()).since(before)


def test_a_process_that_computes_runs() -> None:
    assert measured(lambda: run(0.2)).ran >= 0.2


def test_a_process_that_sleeps_neither_runs_nor_waits() -> None:
    own = waited_seconds()
    over = threading.Event()
    asleep = measured(lambda: over.wait(0.3))
    assert asleep.ran < 0.25
    assert waited_seconds() - own < 0.25


def test_threads_that_share_a_core_wait_for_it() -> None:
    """Two processes on one core: each waits about as long as the other runs, whatever else the machine does."""
    core = {min(os.sched_getaffinity(0))}
    pair = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2)]
    try:
        for process in pair:
            os.sched_setaffinity(process.pid, core)
        wait_until(lambda: all((now := CpuTime.of(process.pid)).ran > 0.3 and now.waited > 0.1 for process in pair), 60)
    finally:
        for process in pair:
            process.kill()
            process.wait()


def test_a_process_that_has_ended_has_no_times() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert CpuTime.of(process.pid) == CpuTime()


def test_every_thread_has_its_own_count() -> None:
    descriptors = []

    def count() -> None:
        waited_seconds()
        descriptors.append(cpu._thread.schedstat._descriptor)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len(descriptors) == 2
    with pytest.raises(OSError, match="Bad file descriptor"):  # closed with its thread
        os.fstat(descriptors[-1])


def test_without_schedstat_nothing_waits() -> None:
    assert cpu._waited(b"") == 0
    assert cpu._waited(b"1000 2000000000 3\n") == 2
