from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from watchfiles import Change, watch

from bunriwiki.model_store import generation_watcher
from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.generation_watcher import Candidate, GenerationWatcher
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until

Changes = queue.Queue[str]


def activated(version: str) -> Generations:
    return Generations().activate("yolo", Target(version=version, since=datetime.now(UTC), source="a test", by="operator"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def start(layout: Layout) -> Iterator[Callable[[], Changes]]:
    """Starts a watcher; the queue gets the serving version after each change that it noticed."""
    watchers: list[GenerationWatcher] = []

    def start() -> Changes:
        changes: Changes = queue.Queue()
        watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
        watchers.append(watcher)
        watcher.start(lambda: changes.put(watcher.aspired("yolo").serving.version))
        return changes

    yield start
    for watcher in watchers:
        watcher.stop()


def inotify_watches() -> int:
    """How many places this process watches with inotify."""
    found = 0
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            found += path.read_text().count("inotify wd:")
    return found


def test_every_replacement_of_the_file_is_noticed(
    layout: Layout, start: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_watcher, "POLL", 60.0)
    before = inotify_watches()
    changes = start()
    wait_until(lambda: inotify_watches() > before)
    for version in ("v1", "v2", "v3"):
        activated(version).write(layout.generation)
        assert changes.get(timeout=5) == version


def test_a_watcher_does_not_keep_its_process_from_ending(start: Callable[[], Changes]) -> None:
    before = threading.enumerate()
    start()
    assert [thread.daemon for thread in threading.enumerate() if thread not in before] == [True]


def test_a_folder_that_cannot_be_watched_is_polled(
    layout: Layout, start: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watches(*_: object, **__: object) -> None:
        raise OSError("no space left on device: no more watches")

    monkeypatch.setattr(generation_watcher, "watch", no_watches)
    monkeypatch.setattr(generation_watcher, "POLL", 0.05)
    changes = start()
    activated("v1").write(layout.generation)
    assert changes.get(timeout=5) == "v1"


def test_without_events_the_file_is_polled(
    layout: Layout, start: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_events(*folders: Path, **options: Any) -> Iterator[object]:
        return watch(*folders, **{**options, "watch_filter": lambda *_: False})

    monkeypatch.setattr(generation_watcher, "watch", without_events)
    monkeypatch.setattr(generation_watcher, "POLL", 0.05)
    changes = start()
    activated("v1").write(layout.generation)
    assert changes.get(timeout=3) == "v1"


def test_only_the_file_is_watched(layout: Layout, start: Callable[[], Changes], monkeypatch: pytest.MonkeyPatch) -> None:
    watched: queue.Queue[tuple[Path, dict[str, Any]]] = queue.Queue()

    def note(folder: Path, **options: Any) -> list[object]:
        watched.put((folder, options))
        options["stop_event"].wait()
        return []

    monkeypatch.setattr(generation_watcher, "watch", note)
    start()
    folder, options = watched.get(timeout=5)
    assert folder == layout.root
    assert not options["recursive"]  # the heartbeats are in run/
    seen = [path.name for path in (layout.generation, layout.sync) if options["watch_filter"](Change.modified, str(path))]
    assert seen == ["generation.yaml"]


def test_stopping_ends_the_thread(layout: Layout) -> None:
    before = set(threading.enumerate())
    watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    watcher.start(lambda: None)
    [thread] = set(threading.enumerate()) - before
    watcher.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_versions_and_their_folders(layout: Layout) -> None:
    layout.version("yolo", "v1").mkdir(parents=True)
    layout.version("kcbert", "v2").mkdir(parents=True)
    watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    assert watcher.published("yolo") == ["v1"]
    assert watcher.folder("yolo", "v1") == layout.version("yolo", "v1")
    assert watcher.folder("yolo", BUNDLED_VERSION) == MODELS / "yolo"


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """The errors that are logged."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="ERROR")
    yield lines
    logger.remove(sink)


def test_an_invalid_or_missing_file_changes_nothing_and_is_logged(layout: Layout, errors: list[str]) -> None:
    activated("v1").write(layout.generation)
    watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    assert (watcher.aspired("yolo").generation, watcher.aspired("yolo").serving.version) == (1, "v1")
    layout.generation.write_text("models: [")
    assert not watcher.refresh()
    assert watcher.aspired("yolo").serving.version == "v1"
    layout.generation.unlink()
    assert not watcher.refresh()
    assert watcher.aspired("yolo").serving.version == "v1"
    layout.generation.mkdir()
    assert not watcher.refresh()
    assert watcher.aspired("yolo").serving.version == "v1"
    invalid, missing, unreadable = errors
    assert invalid.startswith("generation.yaml is not valid")
    assert invalid.endswith(". Its last content stays in effect\n")
    assert missing == f"{layout.generation} is missing; its last content stays in effect\n"
    assert unreadable.startswith(f"{layout.generation} cannot be read; its last content stays in effect: [Errno 21]")


def test_a_file_that_was_never_there_is_no_error(layout: Layout, errors: list[str]) -> None:
    assert not GenerationWatcher(layout, {"yolo": MODELS / "yolo"}).refresh()
    assert not errors


def test_without_a_store_the_fallback_version_serves(tmp_path: Path) -> None:
    watcher = GenerationWatcher(Layout(tmp_path / "nowhere"), {"yolo": MODELS / "yolo"})
    assert watcher.aspired("yolo").serving.version == watcher.fallback_version("yolo") == BUNDLED_VERSION
    assert watcher.fallback("yolo") == MODELS / "yolo"


def test_the_fallback_is_the_bundled_version_of_this_data_plane(layout: Layout) -> None:
    target = Target(version=FALLBACK, since=datetime.now(UTC), source="bundled", by="monitor")
    activated("v1").activate("yolo", target).prepare("yolo", target).write(layout.generation)
    watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    aspired = watcher.aspired("yolo")
    bundled = Candidate(watcher.fallback_version("yolo"), MODELS / "yolo")
    assert (aspired.generation, aspired.serving, aspired.preparing) == (2, bundled, bundled)
    assert [other.version for other in aspired.instead] == ["v1"]


def test_after_the_fallback_it_is_listed_once(layout: Layout) -> None:
    target = Target(version="v1", since=datetime.now(UTC), source="a test", by="poll")
    activated(FALLBACK).activate("yolo", target).write(layout.generation)
    watcher = GenerationWatcher(layout, {"yolo": MODELS / "yolo"})
    assert watcher.aspired("yolo").instead == (Candidate(watcher.fallback_version("yolo"), MODELS / "yolo"),)
