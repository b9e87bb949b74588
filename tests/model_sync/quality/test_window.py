from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.artifacts.features import LABEL, TEXT_LENGTH, Histograms, inputs
from bunriwiki.model_store.heartbeats import GATEWAY_ROLE, Heartbeat, Heartbeats
from model_sync.quality import window as window_module
from model_sync.quality.window import SlidingWindow

KEY = ("kcbert", "v1")


class Setup:
    """A window of a minute, and workers that report what a test says."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.heartbeats = Heartbeats(folder)
        self.window = SlidingWindow(self.heartbeats, 60, lambda: self.now)

    def report(self, texts: int, worker: str = "one", version: str = "v1", role: str = "kcbert") -> None:
        """`worker` has answered so many texts since its start."""
        observed: dict[str, Histograms] = {version: {TEXT_LENGTH: {"8": texts}, LABEL: {"none": texts}}}
        self.heartbeats.write(Heartbeat(worker=worker, pid=1, parent=1, role=role, state="ready", observed=observed))

    def read(self, after: float = 0) -> int:
        """How many texts were answered within the window, `after` so many seconds."""
        self.now += after
        return inputs(self.window.read().get(KEY, {}))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_the_window_begins_with_the_first_reading(setup: Setup) -> None:
    setup.report(500)
    assert setup.read() == 0
    setup.report(510)
    assert setup.read(5) == 10
    assert inputs(setup.window.total(KEY)) == 510


def test_what_is_older_leaves_the_window(setup: Setup) -> None:
    setup.report(0)
    setup.read()
    found = []
    for second in range(1, 131):
        setup.report(min(second, 70))  # a text per second, then none
        found.append(setup.read(1))
    assert found[:3] == [1, 2, 3]
    assert max(found) <= 61
    assert found[69] in (60, 61)
    assert found[100] in (29, 30, 31)
    assert found[-1] == 0
    assert len(setup.window._steps) <= 62


def test_a_new_worker_counts_from_zero_and_a_dead_one_stays_counted(setup: Setup) -> None:
    setup.report(5)
    setup.read()
    setup.report(7)
    setup.report(3, "two")
    assert setup.read(1) == 5
    setup.heartbeats.forget("one")
    assert setup.read(1) == 5


def test_a_worker_that_comes_back_is_not_counted_twice(setup: Setup) -> None:
    setup.report(0)
    setup.read()
    setup.report(8)
    assert setup.read(1) == 8
    setup.heartbeats.forget("one")
    setup.read(1)
    setup.report(9)
    assert setup.read(1) == 9


def test_a_version_that_a_worker_counts_anew(setup: Setup) -> None:
    setup.report(100)
    setup.read()
    setup.report(4)  # it had dropped the counts
    assert setup.read(1) == 4


def test_versions_are_counted_apart_and_gateways_not_at_all(setup: Setup) -> None:
    setup.report(0)
    setup.read()
    setup.report(3, "two", "v2")
    setup.report(9, "three", role=GATEWAY_ROLE)
    setup.now += 1
    assert setup.window.read().keys() == {("kcbert", "v2")}
    setup.window.forget({("kcbert", "v2")})
    assert setup.window.read() == {}


def test_what_no_runner_counts_is_ignored(setup: Setup) -> None:
    setup.report(0)
    setup.read()
    made_up = {
        TEXT_LENGTH: {"8": 1},
        "made up": {"a": 1},
        LABEL: {f"class {number}": 1 for number in range(10_000)},
    }
    many = {f"v{number}": made_up for number in range(100)}
    setup.heartbeats.write(Heartbeat(worker="one", pid=1, parent=1, role="kcbert", state="ready", observed=many))
    setup.now += 1
    found = setup.window.read()
    assert len(found) == window_module.MAX_VERSIONS
    assert all(each.keys() == {TEXT_LENGTH, LABEL} and len(each[LABEL]) < 250 for each in found.values())


def test_remembered_workers_are_bounded(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "MAX_WORKERS", 3)
    for number in range(6):
        setup.report(1, f"worker {number}")
        setup.read(1)
        setup.heartbeats.forget(f"worker {number}")
    assert list(setup.window._seen) == ["worker 3", "worker 4", "worker 5"]
