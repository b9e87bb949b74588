from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.generation import ModelGeneration
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from model_sync.live import monitor as monitor_module
from model_sync.live.analysis import LiveLimits
from model_sync.live.monitor import Ratings, RolloutMonitor
from model_sync.quality.accuracy import Rated
from model_sync.syncing.report import Report
from tests.model_sync.live_workers import FAILING, GOOD, SLOW, LiveWorker

LIMITS = LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20)


class Setup:
    """A monitor of kcbert, of which v1, v2 and v3 are published."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.report = Report(writer.layout.sync, {"kcbert": "here"})
        self.stopping = threading.Event()
        self.rollbacks = 0
        self.monitor = self.make(60)

    def make(self, seconds: float, now: Callable[[], float] = time.time, ratings: Ratings | None = None) -> RolloutMonitor:
        return RolloutMonitor(
            "kcbert", self.writer, self.report, replace(LIMITS, accuracy=3),
            seconds=seconds, stopping=self.stopping, ratings=ratings, on_rollback=self.count, now=now,
        )  # fmt: skip

    def count(self) -> None:
        self.rollbacks += 1

    def activate(self, version: str, by: Any = "poll", *, monitored: bool = True) -> None:
        hook: dict[str, Any] = {"before_activation": self.monitor.begin} if monitored else {}
        promote(self.writer, "kcbert", version, "a test", by, **hook)

    @property
    def serving(self) -> str:
        now = self.writer.generations().of("kcbert").serving
        return now.version if now else ""

    @property
    def reported(self) -> str:
        return self.report.state().models["kcbert"].rollout or ""

    @property
    def monitored(self) -> int:
        """How many versions are monitored."""
        return sum(thread.name.startswith(("monitor kcbert", "accuracy of kcbert")) for thread in threading.enumerate())

    def events(self, kind: str, by: str) -> list[Event]:
        return [event for event in self.writer.history.read("kcbert") if event.kind == kind and event.by == by]


@pytest.fixture
def setup(writer: StoreWriter, make_version: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(monitor_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(monitor_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(monitor_module, "FEEDBACK_POLL_SECONDS", 0.02)
    monkeypatch.setattr(monitor_module, "SETTLE_SECONDS", 0.1)
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("kcbert", version), "a test", "operator", digest_there=f"digest of {version}")
    setup = Setup(writer)
    yield setup
    setup.stopping.set()
    wait_until(lambda: not setup.monitored)


@pytest.mark.parametrize(
    ("bad", "reason", "cause"),
    [
        (FAILING, "50.0% of the inputs failed (v1: 0.0%", "live_errors"),
        (SLOW, "an input takes 500.0 ms", "live_latency"),
    ],
)
def test_a_version_that_fails_on_live_traffic_is_rolled_back_and_quarantined(
    setup: Setup, bad: Any, reason: str, cause: str
) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": bad}):
        setup.activate("v1", monitored=False)
        wait_until(
            lambda: any(beat.served["v1"].inputs > 50 for beat in setup.writer.heartbeats.alive() if "v1" in beat.served)
        )
        setup.activate("v2", by="sqs")
        wait_until(lambda: setup.serving == "v1")
        wait_until(lambda: not setup.monitored)
    [quarantined] = setup.events("quarantined", "monitor")
    assert (quarantined.version, quarantined.cause) == ("v2", cause)
    assert (quarantined.reason or "").startswith(reason)
    assert "inputs failed, in 0 s" in (quarantined.reason or "")
    found = setup.writer.quarantine.find("kcbert", "v2")
    assert found
    assert (found.digest, found.reason) == ("digest of v2", quarantined.reason)
    [activated] = setup.events("activated", "monitor")
    assert (activated.version, activated.workers) == ("v1", 1)
    assert setup.writer.generations().of("kcbert").previous is None
    assert setup.reported.startswith(
        f"v2 was rolled back: {(quarantined.reason or '').removesuffix(', in 0 s')}. Until the rollback, "
    )
    assert setup.rollbacks == 1


def test_a_good_version_stays(setup: Setup) -> None:
    setup.monitor = setup.make(0.3)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: "monitored for 0 s" in setup.reported)
        wait_until(lambda: not setup.monitored)
    assert setup.serving == "v2"
    assert setup.reported.startswith("v2 was monitored for 0 s: ")
    assert "0 failed, 10.0 ms each" in setup.reported
    assert setup.writer.quarantine.all() == []


def test_a_damaged_quarantine_file_does_not_end_the_monitor(setup: Setup) -> None:
    setup.activate("v1", monitored=False)
    damaged = setup.writer.layout.quarantine / "kcbert" / "v1.yaml"
    damaged.parent.mkdir(parents=True)
    damaged.touch()  # the previous version is not one to go back to, and the fallback serves
    with LiveWorker(setup.writer, {BUNDLED_VERSION: GOOD, "v1": GOOD, "v2": FAILING}):
        setup.activate("v2")
        wait_until(lambda: not setup.monitored)
    assert setup.serving == FALLBACK


def test_zero_seconds_disable_the_monitor(setup: Setup) -> None:
    setup.monitor = setup.make(0)
    setup.activate("v1")
    setup.monitor.resume()
    assert setup.monitored == 0


def test_a_bad_first_version_is_rolled_back_to_the_fallback(setup: Setup) -> None:
    with LiveWorker(setup.writer, {BUNDLED_VERSION: GOOD, "v1": FAILING}):
        wait_until(lambda: any(beat.served_by(FALLBACK).inputs > 50 for beat in setup.writer.heartbeats.alive()))
        setup.activate("v1")
        wait_until(lambda: not setup.monitored)
    [quarantined] = setup.events("quarantined", "monitor")
    assert quarantined.version == "v1"
    assert (quarantined.reason or "").startswith("50.0% of the inputs failed (fallback: 0.0%; allowed: 5 points more)")
    [activated] = setup.events("activated", "monitor")
    assert (activated.version, activated.generation, activated.source, activated.workers) == (FALLBACK, 2, "bundled", 1)
    now = setup.writer.generations().of("kcbert")
    assert (setup.serving, now.generation, now.previous) == (FALLBACK, 2, None)
    assert setup.rollbacks == 1
    setup.monitor.resume()  # after a restart, the fallback is not monitored
    assert setup.monitored == 0


def test_without_a_previous_version_on_disk_the_fallback_serves(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        setup.writer.layout.version("kcbert", "v1").rename(setup.writer.layout.staging / "gone")
        wait_until(lambda: setup.serving == FALLBACK)


def test_a_previous_version_in_quarantine_does_not_serve_again(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}) as worker:
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        setup.monitor._put_in_quarantine("v1", "it is bad, too", "live_errors")
        worker.answers["v2"] = FAILING
        wait_until(lambda: setup.serving == FALLBACK)


def test_a_version_after_the_fallback_is_rolled_back_to_it(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": FAILING, "v2": FAILING}):
        for version in ("v1", "v2"):
            setup.activate(version)
            wait_until(lambda: not setup.monitored)
            assert setup.serving == FALLBACK
    assert setup.writer.generations().of("kcbert").generation == 4


def test_a_newer_version_ends_the_monitoring_of_the_older_one(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        for version in ("v1", "v2", "v3"):
            setup.activate(version)
        wait_until(lambda: setup.monitored == 1)
        wait_until(lambda: setup.reported.startswith("v3"))
        worker.answers["v3"] = FAILING
        wait_until(lambda: setup.serving == "v2")
        wait_until(lambda: not setup.monitored)


def test_pinning_ends_the_monitoring(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: setup.reported)
        setup.writer.change(lambda old: old.pin("kcbert", pinned=True))
        wait_until(lambda: not setup.monitored)
        worker.answers["v2"] = FAILING
        assert setup.serving == "v2"
    assert "until it was replaced or pinned" in setup.reported


def test_a_version_that_is_not_activated_is_not_monitored(setup: Setup) -> None:
    def reject(target: Any) -> None:
        setup.monitor.begin(target)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        promote(setup.writer, "kcbert", "v1", "a test", "poll", before_activation=reject)
    wait_until(lambda: not setup.monitored)
    assert setup.reported == ""


def test_a_rollback_does_not_wait_for_a_version_that_is_being_prepared(setup: Setup) -> None:
    """The newer version is superseded, and `on_rollback` is called, so that a new sync can be requested."""
    held = threading.Event()
    errors: list[Exception] = []

    def wait(_: object) -> None:
        held.wait(10)

    def newer() -> None:
        try:
            promote(setup.writer, "kcbert", "v3", "a test", "poll", before_activation=wait)
        except Exception as error:
            errors.append(error)

    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        thread = threading.Thread(target=newer)
        thread.start()
        wait_until(lambda: setup.writer.generations().of("kcbert").preparing)
        worker.answers["v2"] = FAILING
        wait_until(lambda: setup.serving == "v1")
        held.set()
        thread.join()
    assert "kcbert:v3 is no longer wanted" in str(errors[0])
    wait_until(lambda: setup.rollbacks == 1)


def test_a_promotion_by_an_operator_is_not_undone(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is promoted between the decision and the rollback."""

    def meanwhile(*_: object) -> None:
        promote(setup.writer, "kcbert", "v3", "a test", "operator")

    monkeypatch.setattr(setup.monitor, "_put_in_quarantine", meanwhile)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: setup.serving == "v3")
        wait_until(lambda: not setup.monitored)
    assert setup.serving == "v3"
    assert setup.events("activated", "monitor") == []


def test_if_the_previous_version_can_no_longer_be_loaded_the_fallback_serves(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}) as worker:
        setup.activate("v1", monitored=False)
        worker.broken = {"v1"}
        setup.activate("v2")
        wait_until(lambda: setup.serving == FALLBACK)


def test_if_not_even_the_fallback_can_be_loaded_the_version_keeps_serving(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": FAILING}) as worker:
        worker.broken = {BUNDLED_VERSION}
        setup.activate("v1")
        wait_until(lambda: not setup.monitored)
    assert setup.serving == "v1"
    assert setup.reported.startswith("v1 keeps serving because fallback cannot be loaded: ")


def test_a_full_disk_does_not_prevent_a_rollback(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(setup.writer, "put_in_quarantine", full)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: setup.serving == "v1")


def test_an_unreadable_generation_file_does_not_end_the_monitoring(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[ModelGeneration | None] = []
    read = setup.monitor._read

    def recorded() -> ModelGeneration | None:
        reads.append(read())
        return reads[-1]

    monkeypatch.setattr(setup.monitor, "_read", recorded)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}) as worker:
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: setup.reported)
        path = setup.writer.layout.generation
        kept = path.read_text()
        path.write_text("{")
        wait_until(lambda: reads.count(None) > 2)
        path.write_text(kept)
        worker.answers["v2"] = FAILING
        wait_until(lambda: setup.serving == "v1")


def test_monitoring_is_resumed_after_a_restart(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        setup.activate("v1", monitored=False)
        setup.activate("v2", monitored=False)  # by a sidecar that died
        setup.monitor.resume()
        worker.answers["v2"] = FAILING
        wait_until(lambda: setup.serving == "v1")
        wait_until(lambda: not setup.monitored)
        setup.monitor.resume()  # v1 serves as the result of a rollback
        assert setup.monitored == 0


def test_a_rollback_is_resumed_after_a_restart(setup: Setup) -> None:
    with LiveWorker(setup.writer, {}):
        setup.activate("v1", monitored=False)
        setup.activate("v2", monitored=False)
        setup.monitor._put_in_quarantine("v2", "it fails", "live_errors")
        setup.monitor.resume()
        wait_until(lambda: setup.serving == "v1")
    assert [event.cause for event in setup.events("quarantined", "monitor")] == ["live_errors"]  # once


def test_a_version_that_was_monitored_long_enough_is_not_monitored_again(setup: Setup) -> None:
    setup.activate("v1", monitored=False)
    setup.monitor = setup.make(60, now=lambda: time.time() + 61)
    setup.monitor.resume()
    assert setup.monitored == 0


class Feedback:
    """The known feedback on v1, of which nine of ten answers are right, and on v2; and since when it was asked for."""

    def __init__(self, v2: Rated) -> None:
        self.v2 = v2
        self.since: dict[str, float] = {}

    def __call__(self, version: str, since: float) -> Rated:
        self.since[version] = since
        return self.v2 if version == "v2" else Rated(1000, 900)


WORSE, AS_GOOD = Rated(1000, 800), Rated(1000, 895)
REASON = "80.0% of 1000 rated answers were right (v1: 90.0% of 1000; the drop is at least 4.8 points, allowed: 3)"


def test_a_version_that_is_less_accurate_is_rolled_back(setup: Setup) -> None:
    feedback = Feedback(AS_GOOD)
    setup.monitor = setup.make(60, ratings=feedback)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: "v2" in feedback.since)
        now = setup.writer.generations().of("kcbert").serving
        assert now
        assert (setup.serving, feedback.since) == ("v2", {"v2": now.since.timestamp(), "v1": 0})
        feedback.v2 = WORSE
        wait_until(lambda: setup.serving == "v1")
        wait_until(lambda: not setup.monitored)
    [quarantined] = setup.events("quarantined", "monitor")
    assert (quarantined.version, (quarantined.reason or "").startswith(f"{REASON}. 0 of ")) == ("v2", True)
    assert setup.rollbacks == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_feedback_may_come_after_the_monitor_has_ended(setup: Setup, restarted: bool) -> None:
    feedback = Feedback(AS_GOOD)
    setup.monitor = setup.make(0.1, ratings=feedback)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.activate("v1", monitored=False)
        setup.activate("v2", monitored=not restarted)
        if restarted:
            setup.monitor = setup.make(60, lambda: time.time() + 1000, feedback)
            setup.monitor.resume()
        else:
            wait_until(lambda: setup.reported.startswith("v2 was monitored for"))
        setup.writer.change(lambda old: old.pin("kcbert", pinned=True))
        feedback.v2 = WORSE
        feedback.since.clear()
        setup.writer.change(lambda old: old.pin("kcbert", pinned=False))
        wait_until(lambda: setup.serving == "v1")
        wait_until(lambda: not setup.monitored)
    [quarantined] = setup.events("quarantined", "monitor")
    assert (quarantined.version, quarantined.reason) == ("v2", REASON)


def test_the_accuracy_of_a_version_that_was_replaced_is_not_monitored(setup: Setup) -> None:
    feedback = Feedback(AS_GOOD)
    setup.monitor = setup.make(0.1, ratings=feedback)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD, "v3": GOOD}):
        setup.activate("v1", monitored=False)
        setup.activate("v2")
        wait_until(lambda: setup.reported.startswith("v2 was monitored for"))
        setup.activate("v3", monitored=False)
        wait_until(lambda: not setup.monitored)
        feedback.v2 = WORSE
    assert setup.serving == "v3"
    assert setup.events("quarantined", "monitor") == []
