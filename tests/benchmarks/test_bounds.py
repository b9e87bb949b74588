from __future__ import annotations

from dataclasses import replace

from benchmarks.bounds import Run, Side, exceeded, noisy, row, table
from benchmarks.lean import Load
from benchmarks.machine import Noise

QUIET = Noise(foreign=0, stolen=0, load=2)


def side(slowest: float = 10, early: float = 100, late: float = 104, **failures: int) -> Side:
    load = Load(requests=1000, seconds=10, failures=failures, p50=1, p99=2, p999=3, slowest=slowest, own_stall=0.5)
    return Side(load, {"gateway": early, "sum": early}, {"gateway": late, "sum": late}, replace(load, failures={}), QUIET)


def test_bounds_that_hold_are_not_reported() -> None:
    assert exceeded([Run(side(slowest=19.9), side(slowest=10))]) == []


def test_the_median_of_the_runs_counts() -> None:
    good, bad = Run(side(), side()), Run(side(slowest=900), side())
    assert exceeded([good, good, bad]) == []
    assert exceeded([good, bad, bad]) == [
        "The slowest answer took 900.0 ms; at most 20 ms are allowed.",
        "The slowest answer took 90.0 times as long as FastAPI's, 10.0 ms.",
    ]


def test_memory_must_not_grow() -> None:
    found = exceeded([Run(side(late=106), side())])
    assert [sentence.split(" grew")[0] for sentence in found] == ["The memory of gateway", "The memory of sum"]
    assert exceeded([Run(side(), side(late=200))]) == []


def test_a_process_that_was_replaced_exceeds_the_bounds() -> None:
    ours = side()
    gone = replace(ours, late={"sum": 100.0})
    assert len(exceeded([Run(gone, side())])) == 1


def test_a_failed_request_of_either_server_exceeds_the_bounds() -> None:
    assert exceeded([Run(side(), side(closed=1))]) == ["Run 1, FastAPI: requests failed: {'closed': 1}."]
    lone = replace(side(), lone=side(body=2).load)
    assert exceeded([Run(lone, side())]) == ["Run 1, ours: requests failed: {'body': 2}."]


def test_ratios_are_taken_pair_by_pair() -> None:
    assert row("x", [(1, 2), (10, 5), (4, 4)]) == "| x | 4.00 | 4.00 | 1.00 |"
    assert "| requests/s | 100.00 | 100.00 | 1.00 |" in table([Run(side(), side())])
    assert "| gateway | 100.0 | 104.0 | 1.040 |" in table([Run(side(), side())])


def test_a_machine_that_was_not_quiet_is_named() -> None:
    busy = replace(side(), noise=Noise(foreign=0.2, stolen=0, load=3))
    [sentence] = noisy([Run(side(), busy)])
    assert sentence.startswith("Run 1, FastAPI: the machine was not quiet: other processes used 20.0% of its cores")
