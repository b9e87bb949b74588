from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store import following
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.layout import Layout
from tests.conftest import MODELS

Changes = queue.Queue[str]


def activated(version: str) -> Generations:
    return Generations().activate("yolo", Target(version=version, since=datetime.now(UTC), source="a test", by="operator"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def follow(layout: Layout) -> Iterator[Callable[[], Changes]]:
    """Starts a generation_watcher; the queue gets what serves after each change that it noticed."""
    followers: list[GenerationWatcher] = []

    def start() -> Changes:
        changes: Changes = queue.Queue()
        generation_watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
        followers.append(generation_watcher)
        generation_watcher.start(lambda: changes.put(generation_watcher.aspired("yolo").serving.version))
        return changes

    yield start
    for generation_watcher in followers:
        generation_watcher.stop()


def test_a_replaced_file_is_noticed_again_and_again(
    layout: Layout, follow: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL", 60.0)
    changes = follow()
    time.sleep(0.3)  # the watch is there
    for version in ("v1", "v2", "v3"):
        activated(version).write(layout.generation)
        assert changes.get(timeout=5) == version


def test_it_polls_where_no_event_comes(layout: Layout, follow: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watches(*_: object, **__: object) -> None:
        raise OSError("no space left on device: no more watches")

    monkeypatch.setattr(following, "watch", no_watches)
    changes = follow()
    activated("v1").write(layout.generation)
    assert changes.get(timeout=5) == "v1"


def test_a_file_that_cannot_be_followed_changes_nothing(layout: Layout) -> None:
    activated("v1").write(layout.generation)
    generation_watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    layout.generation.write_text("models: [")
    assert not generation_watcher.refresh()
    assert generation_watcher.aspired("yolo").serving.version == "v1"
    layout.generation.unlink()
    assert not generation_watcher.refresh()
    assert generation_watcher.aspired("yolo").serving.version == "v1"
    layout.generation.mkdir()
    assert not generation_watcher.refresh()
    assert generation_watcher.aspired("yolo").serving.version == "v1"


def test_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    generation_watcher = GenerationWatcher(Layout(tmp_path / "nowhere"), {"yolo": MODELS / "yolo"})
    assert generation_watcher.aspired("yolo").serving.version == "fallback-2"
