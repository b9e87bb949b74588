from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.history import Event
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from model_sync.live import monitor as watch
from model_sync.live.analysis import LiveLimits
from model_sync.live.monitor import RolloutMonitor
from model_sync.syncing.report import Report
from tests.conftest import MODELS
from tests.model_sync.live_workers import FAILING, GOOD, SLOW, LiveWorker, until

LIMITS = LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20)


class Setup:
    """A watch over kcbert, of which v1, v2 and v3 are published."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.report = Report(writer.layout.sync, {"kcbert": "here"})
        self.stopping = threading.Event()
        self.gone_back = 0
        self.monitor = self.make(60)

    def make(self, seconds: float) -> RolloutMonitor:
        return RolloutMonitor(
            "kcbert", self.writer, self.report, LIMITS, seconds=seconds, fallback=MODELS / "kcbert", stopping=self.stopping,
            gone_back=self.count,
        )  # fmt: skip

    def count(self) -> None:
        self.gone_back += 1

    def activate(self, version: str, by: Any = "poll", *, watched: bool = True) -> None:
        hook: dict[str, Any] = {"before_activation": self.monitor.begin} if watched else {}
        promote(self.writer, "kcbert", version, "a test", by, **hook)

    @property
    def serving(self) -> str:
        now = self.writer.generations().of("kcbert").serving
        return now.version if now else ""

    @property
    def says(self) -> str:
        return self.report.state().models["kcbert"].rollout or ""

    @property
    def watches(self) -> int:
        return sum(thread.name.startswith("watch kcbert") for thread in threading.enumerate())

    def events(self, kind: str, by: str) -> list[Event]:
        return [event for event in self.writer.history.read("kcbert") if event.kind == kind and event.by == by]


@pytest.fixture
def setup(writer: StoreWriter, make_version: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(watch, "AGAIN", 0.05)
    monkeypatch.setattr(watch, "SETTLED", 0.1)
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("kcbert", version), "a test", "operator", digest_there=f"digest of {version}")
    setup = Setup(writer)
    yield setup
    setup.stopping.set()
    until(lambda: not setup.watches)


@pytest.mark.parametrize(("bad", "reason"), [(FAILING, r"50.0% of the inputs failed, with v1 0.0%"), (SLOW, "500.0 ms for an")])
def test_a_version_that_fails_on_live_traffic_is_taken_back_and_quarantined(setup: Setup, bad: Any, reason: str) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": bad}):
        setup.activate("v1", watched=False)
        until(lambda: any(one.served["v1"].inputs > 50 for one in setup.writer.heartbeats.alive() if "v1" in one.served))
        setup.activate("v2", by="sqs")
        until(lambda: setup.serving == "v1")
        until(lambda: not setup.watches)
    [quarantined] = setup.events("quarantined", "monitor")
    assert quarantined.version == "v2"
    assert (quarantined.reason or "").startswith(reason)
    assert "inputs failed, in 0 s" in (quarantined.reason or "")
    found = setup.writer.quarantine.find("kcbert", "v2")
    assert found
    assert (found.digest, found.reason) == ("digest of v2", quarantined.reason)
    [activated] = setup.events("activated", "monitor")
    assert (activated.version, activated.workers) == ("v1", 1)
    assert setup.writer.generations().of("kcbert").previous is None
    assert setup.says.startswith(f"v2 was taken back: {(quarantined.reason or '').removesuffix(', in 0 s')}. When it was, ")
    assert setup.gone_back == 1


def test_a_good_version_stays(setup: Setup) -> None:
    setup.monitor = setup.make(0.3)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.activate("v1", watched=False)
        setup.activate("v2")
        until(lambda: "since 0 s" in setup.says)
        until(lambda: not setup.watches)
    assert setup.serving == "v2"
    assert setup.says.startswith("v2 was watched for 0 s: ")
    assert "0 failed, 10.0 ms each" in setup.says
    assert setup.writer.quarantine.all() == []


def test_a_watch_of_no_seconds_is_none(setup: Setup) -> None:
    setup.monitor = setup.make(0)
    setup.activate("v1")
    setup.monitor.resume()
    assert setup.watches == 0


def test_with_no_version_before_it_a_bad_one_stays_and_that_is_said(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": FAILING}):
        setup.activate("v1")
        until(lambda: not setup.watches)
    assert setup.serving == "v1"
    assert setup.says.startswith("v1 stays, as there is no version to go back to: 50.0% of the inputs failed")
    assert setup.writer.quarantine.all() == []


def test_a_newer_version_ends_the_watch_over_the_older(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        for version in ("v1", "v2", "v3"):
            setup.activate(version)
        until(lambda: setup.watches == 1)
        until(lambda: setup.says.startswith("v3"))
        worker.answers["v3"] = FAILING
        until(lambda: setup.serving == "v2")
        until(lambda: not setup.watches)


def test_a_version_that_a_person_pins_is_watched_no_longer(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        setup.activate("v1", watched=False)
        setup.activate("v2")
        until(lambda: setup.says)
        setup.writer.pin("kcbert", pinned=True, by="operator")
        until(lambda: not setup.watches)
        worker.answers["v2"] = FAILING
        assert setup.serving == "v2"
    assert "until a change" in setup.says


def test_a_version_that_does_not_come_to_serve_is_not_watched(setup: Setup) -> None:
    def reject(target: Any) -> None:
        setup.monitor.begin(target)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        promote(setup.writer, "kcbert", "v1", "a test", "poll", before_activation=reject)
    until(lambda: not setup.watches)
    assert setup.says == ""


def test_going_back_does_not_wait_for_a_version_that_is_on_its_way(setup: Setup) -> None:
    """The newer one has to give way, and is asked for again."""
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
        setup.activate("v1", watched=False)
        setup.activate("v2")
        thread = threading.Thread(target=newer)
        thread.start()
        until(lambda: setup.writer.generations().of("kcbert").preparing)
        worker.answers["v2"] = FAILING
        until(lambda: setup.serving == "v1")
        held.set()
        thread.join()
    assert "kcbert:v3 is no longer wanted" in str(errors[0])
    until(lambda: setup.gone_back == 1)


def test_what_a_person_did_meanwhile_stays(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the decision and going back another version has come to serve."""

    def meanwhile(*_: object) -> None:
        promote(setup.writer, "kcbert", "v3", "a test", "operator")

    monkeypatch.setattr(setup.monitor, "_put_in_quarantine", meanwhile)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}):
        setup.activate("v1", watched=False)
        setup.activate("v2")
        until(lambda: setup.serving == "v3")
        until(lambda: not setup.watches)
    assert setup.serving == "v3"
    assert setup.events("activated", "monitor") == []


def test_a_version_before_that_cannot_be_loaded_any_more(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}) as worker:
        setup.activate("v1", watched=False)
        worker.broken = {"v1"}
        setup.activate("v2")
        until(lambda: not setup.watches)
    assert setup.serving == "v2"
    assert setup.says.startswith("v2 stays, as v1 cannot be loaded: ")


def test_a_full_disk_does_not_keep_a_bad_version_serving(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(setup.writer, "put_in_quarantine", full)
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": FAILING}):
        setup.activate("v1", watched=False)
        setup.activate("v2")
        until(lambda: setup.serving == "v1")


def test_a_generation_file_that_cannot_be_read_ends_no_watch(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}) as worker:
        setup.activate("v1", watched=False)
        setup.activate("v2")
        until(lambda: setup.says)
        path = setup.writer.layout.generation
        kept = path.read_text()
        path.write_text("{")
        until(lambda: setup.monitor._read() is None)
        threading.Event().wait(0.1)
        path.write_text(kept)
        worker.answers["v2"] = FAILING
        until(lambda: setup.serving == "v1")


def test_a_watch_goes_on_after_the_sidecar_ended(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        setup.activate("v1", watched=False)
        setup.activate("v2", watched=False)  # by a sidecar that has died since
        setup.monitor.resume()
        worker.answers["v2"] = FAILING
        until(lambda: setup.serving == "v1")
        until(lambda: not setup.watches)
        setup.monitor.resume()  # what was gone back to
        assert setup.watches == 0


def test_going_back_goes_on_after_the_sidecar_ended(setup: Setup) -> None:
    with LiveWorker(setup.writer, {}):
        setup.activate("v1", watched=False)
        setup.activate("v2", watched=False)
        setup.monitor._put_in_quarantine("v2", "it fails")
        setup.monitor.resume()
        until(lambda: setup.serving == "v1")


def test_what_has_served_for_long_is_not_watched_again(setup: Setup) -> None:
    setup.activate("v1", watched=False)
    setup.monitor = setup.make(0.01)
    threading.Event().wait(0.05)
    setup.monitor.resume()
    assert setup.watches == 0
