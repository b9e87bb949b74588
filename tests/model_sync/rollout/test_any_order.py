"""Events in any order, crashes among them: clients always have their replicas, and it ends all new or all old."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.contents import withdrawn
from model_sync.rollout.replica_client import Answered
from model_sync.rollout.state import Image
from tests.model_sync.rollout.conftest import MAX_STEPS, OBSERVE_SECONDS, Rig, image_of
from tests.model_sync.rollout.fakes import BASE, FakeEngine


class WatchedEngine(FakeEngine):
    """Notes what must never happen."""

    layout: Layout
    wrong: str = ""

    def start(self, image: Image) -> None:
        if reason := withdrawn(image.versions, Generations.read(self.layout.generation), self.layout):
            self.wrong = f"{image.name} was started although {reason}"
        super().start(image)


class Rollouts(RuleBasedStateMachine):
    """One controller after the other, on one store and one engine."""

    def __init__(self) -> None:
        super().__init__()
        self.sync = mock.patch.object(os, "fsync")  # nothing here outlasts a power cut, and the disk is slow
        self.sync.start()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = WatchedEngine()
        self.rig = Rig(Layout(Path(self.folder.name) / "store"), self.engine)
        self.engine.layout = self.rig.layout
        self.versions = 0
        self.serving = ""

    def teardown(self) -> None:
        self._becomes_quiet()
        self.sync.stop()
        self.folder.cleanup()

    @rule(seconds=st.sampled_from([0.0, OBSERVE_SECONDS, 60.0]))
    def step(self, seconds: float) -> None:
        self.rig.step(seconds)

    @rule(steps=st.integers(1, 12))
    def go_on(self, steps: int) -> None:
        """Some steps in which everything is as it should be, so that a rollout gets anywhere."""
        for _ in range(steps):
            self.rig.step(OBSERVE_SECONDS)
            for running in self.engine.running.values():
                running.ready = not running.replica.exited

    @precondition(lambda self: self.serving)
    @rule()
    def begin(self) -> None:
        self.rig.wish(start=self.rig.state().started + 1)
        self.rig.step()

    @rule()
    def restart(self) -> None:
        self.rig.restart()

    @rule()
    def publish(self) -> None:
        self.versions += 1
        self.serving = f"v{self.versions}"
        self.rig.serve(self.serving)

    @precondition(lambda self: self.serving)
    @rule()
    def roll_back(self) -> None:
        held = self.serving
        self.versions += 1
        self.serving = f"v{self.versions}"
        self.rig.serve(self.serving, held=(held,))

    @rule(data=st.data())
    def become_ready(self, data: st.DataObject) -> None:
        running = data.draw(st.sampled_from(sorted(self.engine.running.values(), key=lambda each: each.replica.name)))
        running.ready = not running.replica.exited

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        running = data.draw(st.sampled_from(sorted(self.engine.running.values(), key=lambda each: each.replica.name)))
        if running.replica.image_name != BASE and not running.replica.trial:
            self.engine.wanted = min(self.engine.wanted, len(self.engine.serving()) - running.ready)
            self.engine.end(running)

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def answer_wrongly(self, data: st.DataObject) -> None:
        for running in self.engine.of(image_of({"yolo": self.serving}).name):
            running.answered = data.draw(st.sampled_from([Answered(), Answered(wrong="wrong"), Answered(later="later")]))

    @rule(paused=st.sampled_from([False, False, True]))
    def pause(self, paused: bool) -> None:
        self.rig.wish(paused=paused)

    @rule()
    def cancel(self) -> None:
        if current := self.rig.rollout():
            self.rig.wish(cancelled=current.number)

    @rule()
    def undo(self) -> None:
        if (current := self.rig.rollout()) and current.phase == "done":
            self.rig.wish(undone=current.number)

    @rule()
    def engine_fails(self) -> None:
        self.engine.fails = "the engine does not answer"
        self.rig.step(OBSERVE_SECONDS)
        self.engine.fails = ""

    @invariant()
    def enough_replicas_serve(self) -> None:
        """No retirement left fewer than were ready before what ended by itself."""
        assert self.engine.dropped <= 0

    @invariant()
    def no_withdrawn_version_is_started(self) -> None:
        assert not self.engine.wrong

    @invariant()
    def at_most_one_too_many(self) -> None:
        current = self.rig.rollout()
        serving = [each for each in self.engine.running.values() if not each.replica.trial and not each.replica.exited]
        assert len(serving) <= (current.wanted if current else 2) + 1

    def _becomes_quiet(self) -> None:
        """Nothing happens any more: the rollout ends by itself, all new or all old."""
        self.rig.wish(paused=False)
        for _ in range(3 * MAX_STEPS):
            self.rig.step(OBSERVE_SECONDS)
            for running in self.engine.running.values():
                running.ready = not running.replica.exited
        current = self.rig.rollout()
        assert current is None or current.is_over
        if current:
            image = current.new if current.phase == "done" else current.old
            assert set(self.rig.images()) == {image.name}, self.rig.state()
            assert len(self.engine.running) == current.wanted


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
