from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.heartbeats import Served
from bunriwiki.model_store.promotion import FailsLiveError, PromotionError, promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.waiting import wait_until
from model_sync.admin.commands import Commands
from model_sync.errors import CommandError, SyncCancelledError
from model_sync.live import canary
from model_sync.live.analysis import LiveLimits, enough
from model_sync.live.canary import CanaryRollout
from model_sync.syncing.report import Report
from tests.model_sync.live_workers import FAILING, GOOD, SLOW, LiveWorker

LIMITS = LiveLimits(requests=50, errors=5, latency=2, stuck=30, differences=20)


class Clock:
    """Stands still until a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Setup:
    """A store in which v1 of kcbert serves, and v2 and v3 are published."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.report = Report(writer.layout.sync, {"kcbert": "here"})
        self.stopping = threading.Event()
        self.clock: Callable[[], float] = time.monotonic

    def promote(
        self,
        version: str = "v2",
        *,
        seconds: float = 60,
        shadow: bool = False,
        deadline: float = 60,
        then: Callable[[Target], None] = lambda _: None,
    ) -> None:
        rollout = CanaryRollout(
            "kcbert", self.writer, self.report, LIMITS, canary=Canary(share=0.1, shadow=shadow), seconds=seconds,
            stopping=self.stopping, clock=self.clock,
        )  # fmt: skip

        def before_activation(target: Target) -> None:
            rollout.start_canary(target)
            then(target)

        promote(self.writer, "kcbert", version, "a test", "poll", before_activation=before_activation, deadline=deadline)

    @property
    def serving(self) -> str:
        now = self.writer.generations().of("kcbert").serving
        return now.version if now else ""

    @property
    def reported(self) -> str:
        return self.report.state().models["kcbert"].rollout or ""


@pytest.fixture
def setup(writer: StoreWriter, make_version: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(canary, "POLL_SECONDS", 0.02)
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("kcbert", version), "a test", "operator")
    setup = Setup(writer)
    promote(writer, "kcbert", "v1", "a test", "poll")
    return setup


def test_a_good_version_serves_when_both_have_answered_enough(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.promote()
    assert setup.serving == "v2"
    assert setup.reported.startswith("v2 as a canary on 10% of the batches for 0 s: ")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FAILING, r"as a canary on 10% of the batches: 50\.0% of the inputs failed \(v1: 0\.0%"),
        (SLOW, r"an input takes 500\.0 ms \(v1: 10\.0 ms"),
    ],
)
def test_a_bad_version_never_serves(setup: Setup, bad: Served, reason: str) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": bad}), pytest.raises(FailsLiveError, match=reason):
        setup.promote()
    now = setup.writer.generations().of("kcbert")
    assert (setup.serving, now.generation, now.preparing, now.canary) == ("v1", 1, None, None)


@pytest.mark.parametrize(("differing", "serves"), [(1, True), (3, False)])
def test_a_shadow_is_rejected_if_its_answers_differ(setup: Setup, differing: int, serves: bool) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}, differing):
        if serves:
            setup.promote(shadow=True)
        else:
            with pytest.raises(FailsLiveError, match=r"as a shadow .* 30\.0% of \d+ copies were .*; no client was affected$"):
                setup.promote(shadow=True)
    assert setup.serving == ("v2" if serves else "v1")


def test_with_too_few_requests_the_version_serves_after_the_canary(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}):
        setup.promote(seconds=0.3)
    assert setup.serving == "v2"
    assert "v2 as a canary on 10% of the batches for 0 s: 0 inputs, 0 failed" in setup.reported


def test_the_deadline_for_loading_does_not_include_the_canary(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}):
        setup.promote(seconds=0.5, deadline=0.2)
    assert setup.serving == "v2"


def test_a_superseded_canary_is_aborted(setup: Setup) -> None:
    errors: list[Any] = []

    def first() -> None:
        try:
            setup.promote()
        except PromotionError as error:
            errors.append(error)

    with LiveWorker(setup.writer, {"v1": GOOD}):
        thread = threading.Thread(target=first)
        thread.start()
        wait_until(lambda: setup.writer.generations().of("kcbert").canary)
        promote(setup.writer, "kcbert", "v3", "a test", "operator")
        thread.join()
    assert str(errors[0]) == "kcbert:v2 is no longer wanted"
    assert setup.serving == "v3"


def test_a_shutdown_cancels_the_canary(setup: Setup) -> None:
    setup.stopping.set()
    with LiveWorker(setup.writer, {"v1": GOOD}), pytest.raises(SyncCancelledError):
        setup.promote()
    now = setup.writer.generations().of("kcbert")
    assert (setup.serving, now.preparing, now.canary) == ("v1", None, None)


def test_without_workers_there_is_no_canary(setup: Setup) -> None:
    setup.promote()
    assert (setup.serving, setup.reported) == ("v2", "")


def test_the_first_version_has_no_canary(writer: StoreWriter, make_version: Callable[..., Path]) -> None:
    writer.publish(make_version("kcbert", "v1"), "a test", "operator")
    with LiveWorker(writer, {"v1": FAILING}):
        Setup(writer).promote("v1")
    assert writer.generations().of("kcbert").generation == 1


def in_background(setup: Setup, **options: Any) -> tuple[threading.Thread, list[Exception]]:
    """A promotion with a canary, and the error that it ended with."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            setup.promote(**options)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: setup.writer.generations().of("kcbert").canary)
    return thread, errors


def test_a_paused_canary_keeps_its_share_until_it_is_resumed(setup: Setup) -> None:
    commands, clock = Commands(setup.writer), Clock()
    setup.clock = clock
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        thread, errors = in_background(setup, seconds=0.3)
        assert commands.pause("kcbert").version == "v2"
        wait_until(lambda: "for 0 s, paused: " in setup.reported)
        worker.answers["v2"] = GOOD
        clock.now += 1
        wait_until(lambda: "for 1 s, paused: " in setup.reported)  # longer than the canary, with more than enough requests
        now = setup.writer.generations().of("kcbert")
        assert (setup.serving, now.canary, now.paused) == ("v1", Canary(share=0.1), "v2")
        assert commands.resume("kcbert").was_paused
        thread.join(10)
    assert (setup.serving, errors) == ("v2", [])
    assert setup.writer.generations().of("kcbert").paused is None


def test_the_time_of_a_paused_canary_stands_still(setup: Setup) -> None:
    commands, clock = Commands(setup.writer), Clock()
    setup.clock = clock
    with LiveWorker(setup.writer, {"v1": GOOD}):
        thread, _ = in_background(setup, seconds=60)
        commands.pause("kcbert")
        wait_until(lambda: "for 0 s, paused: " in setup.reported)
        clock.now += 70
        wait_until(lambda: "for 70 s, paused: " in setup.reported)
        commands.resume("kcbert")
        wait_until(lambda: "for 70 s: " in setup.reported)  # it goes on for what was left of its time
        clock.now += 59
        wait_until(lambda: "for 129 s: " in setup.reported)
        assert setup.serving == "v1"
        clock.now += 2
        thread.join(10)
    assert setup.serving == "v2"


def test_a_bad_canary_is_rejected_while_it_is_paused(setup: Setup) -> None:
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        thread, errors = in_background(setup)
        Commands(setup.writer).pause("kcbert")
        worker.answers["v2"] = FAILING
        thread.join(10)
    assert isinstance(errors[0], FailsLiveError)
    assert setup.serving == "v1"


@pytest.mark.parametrize("paused", [False, True])
def test_an_operator_promotes_a_canary(setup: Setup, paused: bool) -> None:
    commands = Commands(setup.writer)
    with LiveWorker(setup.writer, {"v1": GOOD}):
        thread, errors = in_background(setup)
        if paused:
            commands.pause("kcbert")
        done = commands.promote("kcbert")
        assert setup.serving == "v2"
        thread.join(10)
    assert (done.version, done.workers, errors) == ("v2", 1, [])
    now = setup.writer.generations().of("kcbert")
    assert now.previous
    assert (now.generation, now.previous.version, now.paused, now.canary) == (2, "v1", None, None)
    events = [(event.kind, event.version, event.by) for event in setup.writer.history.read("kcbert")][-3:]
    assert sorted(events[-2:]) == [("activated", "v2", "poll"), ("promoted", "v2", "operator")]  # two threads note them
    assert (events[0][0] == "paused") is paused


def test_an_operator_aborts_a_canary(setup: Setup) -> None:
    commands = Commands(setup.writer)
    with LiveWorker(setup.writer, {"v1": GOOD}):
        thread, errors = in_background(setup)
        commands.pause("kcbert")
        assert commands.abort("kcbert").version == "v2"
        thread.join(10)
    assert str(errors[0]) == "kcbert:v2 is no longer wanted"
    now = setup.writer.generations().of("kcbert")
    assert (setup.serving, now.held, now.paused, now.preparing, now.canary) == ("v1", ("v2",), None, None, None)


def test_a_canary_that_begins_again_is_still_paused(setup: Setup) -> None:
    clock = setup.clock = Clock()
    with LiveWorker(setup.writer, {"v1": GOOD}) as worker:
        thread, _ = in_background(setup)
        Commands(setup.writer).pause("kcbert")
        worker.answers["v2"] = GOOD
        wait_until(lambda: "for 0 s, paused: " in setup.reported)
        clock.now += 5
        wait_until(lambda: "for 5 s, paused: " in setup.reported)
        setup.stopping.set()
        thread.join(10)
        assert setup.writer.generations().of("kcbert").canary is None
        setup.stopping.clear()
        thread, _ = in_background(setup, seconds=60)
        wait_until(lambda: "for 0 s, paused: " in setup.reported)
        clock.now += 70
        wait_until(lambda: "for 70 s, paused: " in setup.reported)
        assert setup.serving == "v1"
        Commands(setup.writer).promote("kcbert")
        thread.join(10)


def test_a_paused_version_is_not_activated_when_the_workers_are_down(setup: Setup) -> None:
    setup.writer.change(lambda old: old.pause("kcbert", "v2"))
    thread, errors = in_background(setup, seconds=0.1)
    wait_until(lambda: ", paused: " in setup.reported)
    assert setup.serving == "v1"
    Commands(setup.writer).resume("kcbert")
    thread.join(10)
    assert (setup.serving, errors) == ("v2", [])


def test_a_pause_in_the_moment_of_the_decision_counts(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(setup.writer)

    def paused_meanwhile(*_: object, **__: object) -> bool:
        monkeypatch.setattr(canary, "enough", enough)
        commands.pause("kcbert")
        return True

    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        monkeypatch.setattr(canary, "enough", paused_meanwhile)
        thread, _ = in_background(setup)
        wait_until(lambda: ", paused: " in setup.reported)
        assert setup.serving == "v1"
        commands.promote("kcbert")
        thread.join(10)


def test_after_the_decision_a_canary_can_no_longer_be_paused(setup: Setup) -> None:
    rejected: list[CommandError] = []

    def pause(_: Target) -> None:
        with pytest.raises(CommandError) as caught:
            Commands(setup.writer).pause("kcbert")
        rejected.append(caught.value)

    with LiveWorker(setup.writer, {"v1": GOOD, "v2": GOOD}):
        setup.promote(then=pause)
    assert (setup.serving, rejected[0].kind) == ("v2", "nothing")
