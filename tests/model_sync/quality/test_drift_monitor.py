from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from bunriwiki.artifacts.features import LABEL, TEXT_LENGTH, Histograms, add, inputs
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from model_sync.quality import drift_monitor as monitor_module
from model_sync.quality.drift_monitor import DriftMonitor
from model_sync.quality.references import References
from model_sync.quality.window import SlidingWindow

SHORT: Histograms = {TEXT_LENGTH: {"8": 60, "16": 40}, LABEL: {"none": 80, "hate": 20}}
LONG: Histograms = {TEXT_LENGTH: {"8": 20, "512": 80}, LABEL: {"none": 80, "hate": 20}}


class Setup:
    """A monitor with a window of a minute, and a worker of kcbert."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.layout.create()
        self.heartbeats = Heartbeats(self.layout.run)
        self.now = 0.0
        self.observed: dict[str, Histograms] = {}
        self.monitor = DriftMonitor(self.layout, MODELS, 60, SlidingWindow(self.heartbeats, 60, lambda: self.now))

    def answer(self, histograms: Histograms, times: int, version: str = BUNDLED_VERSION, *, after: float = 1) -> None:
        """The worker answers so many times 100 texts, then the monitor looks."""
        for _ in range(times):
            self.observed[version] = add(self.observed.get(version, {}), histograms)
        self.heartbeats.write(Heartbeat(worker="one", pid=1, parent=1, role="kcbert", state="ready", observed=self.observed))
        self.now += after
        self.monitor.look()

    def drifted(self) -> list[str]:
        return [feature for each in self.monitor.figures() for feature, drift in each.drift.items() if drift.drifted]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    setup = Setup(tmp_path)
    setup.answer({}, 1)
    return setup


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


def test_there_is_no_drift_without_a_reference(setup: Setup) -> None:
    setup.answer(SHORT, 5)
    [figure] = setup.monitor.figures()
    assert (figure.model, figure.version, figure.answers, figure.reference) == ("kcbert", BUNDLED_VERSION, 500, None)
    assert (figure.labels, figure.drift) == ({"none": 400, "hate": 100}, {})


def test_the_first_thousand_answers_are_the_reference(setup: Setup, logged: list[str]) -> None:
    setup.answer(SHORT, 9)
    assert setup.monitor.figures()[0].reference is None
    setup.answer(SHORT, 1)
    assert setup.monitor.figures()[0].reference == "live"
    setup.answer(LONG, 5, after=30)
    kept = References(setup.layout.quality).read("kcbert", BUNDLED_VERSION).live
    assert kept
    assert inputs(kept) == 1000  # what comes later does not change it
    setup.answer(LONG, 5, after=45)
    assert setup.drifted() == [TEXT_LENGTH]
    assert any(f"kcbert {BUNDLED_VERSION}: text_length has drifted from its live reference" in line for line in logged)
    setup.answer(SHORT, 5, after=90)
    setup.answer(SHORT, 5, after=61)
    assert setup.drifted() == []
    assert sum("text_length has drifted from" in line for line in logged) == 1
    assert sum("text_length has not drifted any more" in line for line in logged) == 1


def test_until_then_it_is_the_evaluation(setup: Setup) -> None:
    evaluation = {feature: {name: 3 * count for name, count in counts.items()} for feature, counts in SHORT.items()}
    References(setup.layout.quality).keep_evaluation("kcbert", BUNDLED_VERSION, evaluation)
    setup.answer(LONG, 3)
    assert setup.monitor.figures()[0].reference == "evaluation"
    assert setup.drifted() == [TEXT_LENGTH]


def test_only_versions_of_the_store_count(setup: Setup) -> None:
    setup.layout.version("kcbert", "v1").mkdir(parents=True)
    for version in ("v1", "made-up"):
        setup.answer(SHORT, 1, version)
    assert [figure.version for figure in setup.monitor.figures()] == ["v1"]
    assert setup.monitor.known()["kcbert"] == {"v1", BUNDLED_VERSION}


def test_it_goes_on_after_an_error(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []

    def look(_: DriftMonitor) -> None:
        looks.append(None)
        raise OSError("no space left on device")

    monkeypatch.setattr(DriftMonitor, "look", look)
    monkeypatch.setattr(monitor_module, "POLL_SECONDS", 0.01)
    stopping = threading.Event()

    thread = threading.Thread(target=setup.monitor.run, args=(stopping,))
    thread.start()
    wait_until(lambda: len(looks) > 2)
    stopping.set()
    thread.join()
