"""A store, an engine in memory, and the controller between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.comparison import Limits
from model_sync.rollout.controller import Choices, Controller
from model_sync.rollout.health import HealthMonitor, Times
from model_sync.rollout.state import Image, Rollout, State
from model_sync.rollout.wishes import Wishes
from tests.model_sync.rollout.fakes import BASE, Clock, FakeEngine, Running

SETTLE_SECONDS = 60.0
READY_SECONDS, OBSERVE_SECONDS = 100.0, 10.0
MAX_STEPS = 60


def image_of(versions: Mapping[str, str]) -> Image:
    """The image with these versions, as the builder would name it."""
    return Image(name="repository:" + "-".join(versions.values()) if versions else BASE, versions=dict(versions))


@dataclass
class Rig:
    """All of it. `restart` makes a new controller, which has only what is in the files."""

    layout: Layout
    engine: FakeEngine = field(default_factory=FakeEngine)
    clock: Clock = field(default_factory=Clock)
    choices: Choices = field(default_factory=lambda: Choices(SETTLE_SECONDS))

    def __post_init__(self) -> None:
        self.layout.create()
        self.restart()

    def restart(self) -> None:
        limits = Limits(requests=50, error_points=5, latency_ratio=2)
        health = HealthMonitor(self.engine, Times(READY_SECONDS, OBSERVE_SECONDS), limits, self.clock)
        self.controller = Controller(self.layout, self.engine, self.engine, health, self.choices, name=image_of, now=self.now)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock.seconds)

    def serve(self, version: str, *, model: str = "yolo", held: tuple[str, ...] = ()) -> None:
        """Have `version` serve from now on."""
        target = Target(version=version, since=self.now(), source="a test", by="poll")
        old = Generations.read(self.layout.generation)
        old.activate(model, target).hold(model, *held).write(self.layout.generation)

    def wish(self, **wishes: object) -> None:
        wanted = Wishes.read(self.layout.rollout_wishes).model_copy(update=wishes)
        wanted.write(self.layout.rollout_wishes)

    def settle(self) -> None:
        """Let the time pass after which what serves is rolled out."""
        self.clock.seconds += SETTLE_SECONDS

    def step(self, seconds: float = 0.0) -> bool:
        self.clock.seconds += seconds
        return self.controller.step()

    def run(self, *, ready: bool = True) -> Rollout:
        """Step until the rollout is over; with `ready`, replicas become ready. Returns the rollout."""
        for _ in range(MAX_STEPS):
            self.step(OBSERVE_SECONDS)
            for running in self.engine.running.values() if ready else ():
                running.ready = not running.replica.exited
            if (rollout := self.rollout()) and rollout.is_over:
                return rollout
        raise AssertionError(f"not over after {MAX_STEPS} steps: {self.state()}")

    def until(self, image: str) -> Running:
        """Step until a replica of `image` runs, and return it."""
        for _ in range(MAX_STEPS):
            for running in self.engine.of(image):
                if not running.replica.trial:
                    return running
                running.ready = True
            self.step(OBSERVE_SECONDS)
        raise AssertionError(f"no replica of {image} was started: {self.state()}")

    def state(self) -> State:
        return State.read(self.layout.rollout_state)

    def rollout(self) -> Rollout | None:
        return self.state().current

    def images(self) -> list[str]:
        return sorted(running.replica.image_name for running in self.engine.running.values())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(Layout(tmp_path / "store"))
