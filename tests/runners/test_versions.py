"""A worker that follows the store, with models that are files with a word in them."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.artifacts.manifest import MANIFEST
from bunriwiki.lifecycle.manager import NotAvailableError
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.settings import VitalLimits
from bunriwiki.telemetry.vitals import Vitals
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from runners import versions
from runners.throttle import Pause
from runners.versions import NoVersionError, Versions

SECONDS = 20.0


class Word:
    """A model whose only file says what it answers, or what is wrong with it."""

    stuck = threading.Event()

    def __init__(self, folder: Path) -> None:
        self.word = (folder / "word").read_text()
        self.version = BUNDLED_VERSION if self.word == "fallback" else folder.name
        if self.word == "other":
            self.version = "another"
        if self.word == "stuck":
            assert self.stuck.wait(SECONDS)
        if self.word == "broken":
            raise ValueError("broken")

    def warm_up(self, pause: Pause) -> None:
        pause()
        if self.word == "cold":
            raise ValueError("does not warm up")


class Clock:
    """Stands still until a test moves it. Gives the times in `first` before that."""

    def __init__(self) -> None:
        self.now = 100.0
        self.first: list[float] = []

    def __call__(self) -> float:
        return self.first.pop(0) if self.first else self.now


@dataclass
class Worker:
    """A worker, and the store that it follows."""

    layout: Layout
    vitals: Vitals
    generation_watcher: GenerationWatcher
    clock: Clock
    versions: Versions[Word]
    ends: list[str] = field(default_factory=list)
    beats: int = 0

    def publish(self, version: str, word: str | None = None) -> None:
        folder = self.layout.version("yolo", version)
        folder.mkdir(parents=True)
        (folder / "word").write_text(word or version)

    def change(self, how: Callable[[Generations], Generations]) -> None:
        how(Generations.read(self.layout.generation)).write(self.layout.generation)

    def prepare(self, version: str) -> None:
        self.change(lambda old: old.prepare("yolo", target(version)))

    def activate(self, version: str) -> None:
        self.change(lambda old: old.activate("yolo", target(version)))

    def answer(self, version: str) -> str:
        with self.versions.handle(version) as handle:
            return handle.servable.word

    def until(self, condition: Callable[[Heartbeat], bool]) -> None:
        wait_until(lambda: condition(self.vitals.latest), SECONDS, lambda: self.vitals.latest)

    def follow(self, steps: int = 1) -> None:
        """Let the worker's thread go through so many whole steps from now on."""
        for _ in range(steps + 1):  # a step may be under way
            before = self.beats
            self.versions._wake.set()
            self.until(lambda _, before=before: self.beats > before)  # type: ignore[misc]

    def has(self, version: str) -> bool:
        try:
            return self.answer(version) == version
        except NotAvailableError:
            return False


def target(version: str) -> Target:
    return Target(version=version, since=datetime.now(UTC), source="a test", by="operator")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that has not been started."""
    monkeypatch.setattr(versions, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(versions, "EVERY", 0.05)
    Word.stuck.clear()
    layout = Layout(tmp_path / "store")
    layout.create()
    fallback = tmp_path / "fallback"  # the lock of loads is on this folder
    fallback.mkdir()
    shutil.copyfile(MODELS / "yolo" / MANIFEST, fallback / MANIFEST)
    (fallback / "word").write_text("fallback")
    vitals = Vitals("yolo", Heartbeats(layout.run), VitalLimits(max_rss_bytes=0, workers=1, shutdown_seconds=60))
    generation_watcher, clock = GenerationWatcher(layout, {"yolo": fallback}), Clock()
    worker = Worker(layout, vitals, generation_watcher, clock, Versions("yolo", Word, generation_watcher, vitals, clock))
    beat = vitals.beat

    def count(**details: Any) -> None:
        beat(**details)
        worker.beats += "loaded" in details  # the beat of a step

    monkeypatch.setattr(vitals, "beat", count)
    monkeypatch.setattr(vitals, "end", worker.ends.append)
    yield worker
    Word.stuck.set()
    worker.versions.stop()


def test_it_goes_back_to_the_fallback_like_to_any_version(worker: Worker) -> None:
    worker.publish("v1")
    worker.activate("v1")
    worker.versions.start()
    assert (worker.versions.serving, worker.has("fallback")) == ("v1", False)
    worker.prepare(FALLBACK)
    worker.until(lambda latest: latest.prepared(FALLBACK))
    assert (worker.versions.serving, worker.vitals.latest.fallback) == ("v1", BUNDLED_VERSION)
    worker.activate(FALLBACK)
    worker.until(lambda latest: latest.generation == 2 and latest.serving == BUNDLED_VERSION)
    assert worker.answer(BUNDLED_VERSION) == "fallback"


def test_it_starts_with_the_fallback_that_was_decided(worker: Worker) -> None:
    worker.publish("v1")
    worker.activate("v1")
    worker.activate(FALLBACK)
    worker.versions.start()
    latest = worker.vitals.latest
    assert (latest.serving, latest.generation, latest.loaded) == (BUNDLED_VERSION, 2, {BUNDLED_VERSION: "available"})


def test_it_starts_with_the_fallback(worker: Worker) -> None:
    worker.versions.start()
    assert worker.versions.serving == BUNDLED_VERSION
    assert worker.answer(BUNDLED_VERSION) == "fallback"
    latest = worker.vitals.latest
    assert (latest.state, latest.generation, latest.loaded) == ("ready", 0, {BUNDLED_VERSION: "available"})


def test_a_hot_swap(worker: Worker) -> None:
    worker.publish("v1")
    worker.versions.start()
    worker.prepare("v1")
    worker.until(lambda it: it.prepared("v1"))
    assert worker.versions.serving == BUNDLED_VERSION
    assert worker.answer("v1") == "v1"  # a gateway may have noticed the activate before this worker does
    worker.activate("v1")
    worker.until(lambda it: it.serving == "v1" and it.generation == 1)
    assert worker.has("v1")
    assert worker.answer(BUNDLED_VERSION) == "fallback"  # and another gateway may not have noticed yet
    worker.clock.now += versions.LINGER + 0.1
    worker.until(lambda it: set(it.loaded) == {"v1"})
    with pytest.raises(NotAvailableError):
        worker.answer(BUNDLED_VERSION)


def test_a_worker_that_starts_later_loads_the_activated_version(worker: Worker) -> None:
    worker.publish("v1")
    worker.activate("v1")
    worker.versions.start()
    assert worker.versions.serving == "v1"
    assert set(worker.vitals.latest.loaded) == {"v1"}


@pytest.mark.parametrize("word", ["broken", "cold", "other"])
def test_a_version_that_cannot_be_loaded_changes_nothing(worker: Worker, word: str) -> None:
    worker.publish("v1", word)
    worker.versions.start()
    worker.prepare("v1")
    worker.until(lambda it: it.failed("v1") is not None)
    assert worker.answer(BUNDLED_VERSION) == "fallback"
    worker.activate("v1")
    worker.until(lambda it: it.generation == 1)
    assert worker.versions.serving == BUNDLED_VERSION
    assert not worker.ends  # no worker has it


def test_at_its_start_it_takes_the_version_before_and_then_the_fallback(worker: Worker) -> None:
    worker.publish("v1", "broken")
    worker.publish("v2", "broken")
    worker.activate("v1")
    worker.activate("v2")
    worker.versions.start()
    assert worker.versions.serving == BUNDLED_VERSION
    assert "v2" in worker.vitals.latest.errors
    worker.publish("v3")
    worker.prepare("v3")
    worker.until(lambda it: it.prepared("v3"))
    worker.activate("v3")
    worker.until(lambda it: it.serving == "v3")


def test_the_last_known_good_version_comes_before_the_fallback(worker: Worker) -> None:
    worker.publish("v1")
    worker.activate("v1")
    worker.activate("v2")  # was never published
    worker.versions.start()
    assert worker.versions.serving == "v1"


def test_a_failed_load_is_repeated_after_a_while(worker: Worker) -> None:
    worker.activate("v1")
    worker.versions.start()
    assert worker.versions.serving == BUNDLED_VERSION
    worker.publish("v1")
    worker.follow()
    assert worker.versions.serving == BUNDLED_VERSION
    worker.clock.now += versions.TRY_AGAIN + 0.1
    worker.until(lambda it: it.serving == "v1")


def test_with_nothing_that_can_be_loaded_it_does_not_start(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Word, folder: Path) -> None:
        raise ValueError(f"{folder.name} is broken")

    monkeypatch.setattr(Word, "__init__", nothing)
    with pytest.raises(NoVersionError, match=rf"yolo:{BUNDLED_VERSION}: ValueError: fallback is broken"):
        worker.versions.start()


def test_a_load_that_is_stuck_at_the_start_gives_way(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PATIENCE", 0.1)
    worker.clock.first = [worker.clock.now - versions.START_SECONDS / 2 - 1]
    worker.publish("v1", "stuck")
    worker.activate("v1")
    worker.versions.start()
    assert worker.versions.serving == BUNDLED_VERSION


def test_when_everything_is_stuck_at_the_start_it_ends(worker: Worker) -> None:
    worker.clock.first = [worker.clock.now - versions.START_SECONDS - 1]
    for version in ("v1", "v2"):
        worker.publish(version, "stuck")
        worker.activate(version)
    with pytest.raises(NoVersionError, match="within"):
        worker.versions.start()


def other_worker(worker: Worker, version: str, state: str = "available", parent: int | None = None) -> None:
    """Write the heartbeat of another worker of yolo; without a `parent`, of the same service."""
    Heartbeats(worker.layout.run).write(
        Heartbeat(worker="other", pid=1, parent=parent or os.getppid(), role="yolo", state="ready", loaded={version: state})
    )


def test_a_worker_does_not_start_with_less_than_its_siblings(worker: Worker) -> None:
    worker.publish("v1", "broken")
    worker.activate("v1")
    other_worker(worker, "v1")
    with pytest.raises(NoVersionError, match="other workers could load yolo:v1"):
        worker.versions.start()


@pytest.mark.parametrize(("state", "ends"), [("available", True), ("loading", False)])
def test_a_straggler_ends_when_any_worker_is_ahead(worker: Worker, state: str, ends: bool) -> None:
    worker.publish("v1", "stuck")
    worker.versions.start()
    worker.prepare("v1")
    other_worker(worker, "v1", state, parent=1)
    worker.until(lambda it: it.loaded.get("v1") == "loading")
    assert not worker.ends
    worker.activate("v1")
    worker.until(lambda it: it.generation == 1)
    worker.follow()
    assert not worker.ends
    worker.clock.now += versions.GRACE + 0.1
    worker.follow()
    assert bool(worker.ends) == ends
    assert worker.answer(BUNDLED_VERSION) == "fallback"


@pytest.mark.parametrize(("parent", "ends"), [(None, True), (1, False)])
def test_a_worker_that_failed_ends_where_its_siblings_answer(worker: Worker, parent: int | None, ends: bool) -> None:
    worker.publish("v1", "broken")
    worker.versions.start()
    worker.activate("v1")
    other_worker(worker, "v1", parent=parent)
    worker.until(lambda it: it.failed("v1") is not None)
    worker.follow()
    assert not worker.ends
    worker.clock.now += versions.GRACE + 0.1
    worker.follow()
    assert bool(worker.ends) == ends
    assert worker.answer(BUNDLED_VERSION) == "fallback"


def test_a_worker_whose_loads_are_all_stuck_ends(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PATIENCE", 0.2)
    worker.versions.start()
    for version in ("v1", "v2"):
        worker.publish(version, "stuck")
        worker.prepare(version)
        worker.until(lambda it, version=version: it.loaded.get(version) == "loading")  # type: ignore[misc]
    assert not worker.ends
    worker.change(lambda old: old.prepare("yolo", None))
    worker.until(lambda it: worker.versions._manager.unwanted_loads == 2)
    worker.follow()
    assert not worker.ends
    worker.clock.now += versions.PATIENCE + 0.1
    worker.until(lambda it: bool(worker.ends))


def busy(worker: Worker, monkeypatch: pytest.MonkeyPatch, **figures: object) -> None:
    """Have the worker's heartbeat say that a batch is under way."""
    monkeypatch.setattr(worker.vitals, "end", lambda reason, within: worker.ends.append(reason))
    monkeypatch.setattr(worker.vitals, "_figures", lambda: figures)


@pytest.mark.parametrize(("version", "seconds", "ends"), [("v1", 31, True), ("v1", 10, False), (BUNDLED_VERSION, 31, False)])
def test_a_worker_with_a_stuck_batch_of_another_version_ends(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, version: str, seconds: float, ends: bool
) -> None:
    busy(worker, monkeypatch, busy_with=version, busy_since=time.time())
    worker.versions.start()
    worker.versions._end_when_a_batch_is_stuck()
    worker.clock.now += seconds
    worker.versions._end_when_a_batch_is_stuck()
    assert set(worker.ends) == ({"yolo:v1 does not finish a batch"} if ends else set())


def test_a_clock_that_jumps_makes_no_batch_stuck(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(worker, monkeypatch, busy_with="v1", busy_since=time.time() - 3600)  # an hour ago, by a clock that was set
    worker.versions.start()
    for _ in range(2):
        worker.versions._end_when_a_batch_is_stuck()
        worker.clock.now += 10
    assert worker.ends == []


def test_another_batch_begins_anew(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.versions.start()
    for number in range(5):
        busy(worker, monkeypatch, busy_with="v1", busy_since=time.time() + number)
        worker.vitals.beat()
        worker.versions._end_when_a_batch_is_stuck()
        worker.clock.now += 20
    assert worker.ends == []


def test_a_version_that_failed_once_may_serve_later(worker: Worker) -> None:
    worker.publish("v1", "broken")
    worker.versions.start()
    worker.prepare("v1")
    worker.until(lambda it: it.failed("v1") is not None)
    worker.change(lambda old: old.prepare("yolo", None))
    worker.until(lambda it: it.preparing is None)
    (worker.layout.version("yolo", "v1") / "word").write_text("v1")
    worker.clock.now += versions.TRY_AGAIN + 0.1
    worker.prepare("v1")
    worker.until(lambda it: it.prepared("v1"))
    worker.activate("v1")
    worker.until(lambda it: it.serving == "v1")
    for _ in range(20):
        worker.clock.now += versions.TRY_AGAIN
        worker.follow()
        assert worker.has("v1")


def test_a_store_that_cannot_be_read_stops_nothing(worker: Worker) -> None:
    worker.versions.start()
    worker.publish("v1")
    worker.activate("v1")
    worker.until(lambda it: it.serving == "v1")
    kept = worker.layout.generation.read_text()
    for broken in ("{", "models: {yolo: {serving: {since: 2026-02-30}}}", None):
        worker.layout.generation.unlink()
        if broken:
            worker.layout.generation.write_text(broken)
        worker.generation_watcher.refresh()
        worker.follow()
        assert worker.versions.serving == "v1"
        worker.layout.generation.write_text(kept)
