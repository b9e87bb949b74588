from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.waiting import wait_until
from model_sync.live import draining
from model_sync.live.draining import time_drain
from model_sync.syncing.report import Report

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Setup:
    """A worker of kcbert that has v1 and v2 in memory, of which v2 serves."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.report = Report(writer.layout.sync, {"kcbert": "here"})
        self.stopping = threading.Event()
        promote(writer, "kcbert", "v2", "a test", "poll")
        self.has("v1", "v2")

    def has(self, *versions: str) -> None:
        loaded = dict.fromkeys(versions, "available")
        self.writer.heartbeats.write(Heartbeat(worker="one", pid=1, parent=1, role="kcbert", state="ready", loaded=loaded))

    def begin(self) -> None:
        time_drain(self.writer, self.report, "kcbert", self.stopping, "v1")

    @property
    def is_running(self) -> bool:
        return any(thread.name == "drain of kcbert v1" for thread in threading.enumerate())


@pytest.fixture
def setup(writer: StoreWriter, make_version: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(draining, "POLL_SECONDS", 0.01)
    for version in ("v1", "v2"):
        writer.publish(make_version("kcbert", version), "a test", "operator")
    setup = Setup(writer)
    yield setup
    setup.stopping.set()
    wait_until(lambda: not setup.is_running)


def test_it_ends_when_no_worker_has_the_version_in_memory(setup: Setup) -> None:
    setup.begin()
    assert setup.is_running
    setup.has("v2")
    wait_until(lambda: not setup.is_running)
    assert setup.report.seconds("kcbert").keys() == {"drain"}


def test_nothing_is_reported_if_the_version_serves_again(setup: Setup) -> None:
    setup.writer.change(lambda old: old.activate("kcbert", Target(version="v1", since=NOW, source="a test", by="operator")))
    setup.begin()
    wait_until(lambda: not setup.is_running)
    assert setup.report.seconds("kcbert") == {}


def test_nothing_is_reported_if_it_takes_too_long(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "DEADLINE", 0.02)
    setup.begin()
    wait_until(lambda: not setup.is_running)
    assert setup.report.seconds("kcbert") == {}
