from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from bunriwiki import supervisor
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.supervisor import OrderlyArbiter


class Arbiter(OrderlyArbiter):
    """The arbiter without circus: `processes` are those that circus knows of each watcher."""

    def __init__(self, folder: Path, *processes: list[int]) -> None:
        self._folder = self._metrics = folder
        self._heartbeats = Heartbeats(folder)
        self._started = set()
        self.known = processes

    def iter_watchers(self, reverse: bool = True) -> Any:
        return (SimpleNamespace(processes=dict.fromkeys(pids)) for pids in self.known)


def test_workers_that_circus_drops_silently_are_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[int] = []
    monkeypatch.setattr(supervisor, "merge_dead", lambda _, pid: merged.append(pid))
    starts = Counter("starts", "Starts.", registry=CollectorRegistry())
    gateway, runner = [1, 2], [3]
    arbiter = Arbiter(tmp_path, gateway, runner)
    for pid in (1, 2, 3):
        assert arbiter._note_start(starts, pid=pid)
    assert merged == []
    runner.remove(3)
    arbiter._clean_up(process_pid=3)  # circus told of it
    gateway.remove(2)  # of this one it did not
    assert arbiter._note_start(starts, pid=4)
    assert merged == [3, 2]
    gateway.append(4)
    assert arbiter._note_start(starts, pid=5)
    assert merged == [3, 2]
    assert starts._value.get() == 5


def test_a_worker_may_run_also_if_a_merge_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("damaged")

    monkeypatch.setattr(supervisor, "merge_dead", fail)
    arbiter = Arbiter(tmp_path, [])
    starts = Counter("starts", "Starts.", registry=CollectorRegistry())
    assert arbiter._note_start(starts, pid=1)
    assert arbiter._note_start(starts, pid=2)


def test_a_check_while_circus_starts_workers_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[bool] = []

    async def check(_: Arbiter) -> None:
        checks.append(True)

    monkeypatch.setattr(OrderlyArbiter.__base__, "manage_watchers", check)
    arbiter = Arbiter(tmp_path)

    async def check_during(command: str | None) -> None:
        arbiter._exclusive_running_command = command
        await arbiter.manage_watchers()

    asyncio.run(check_during("arbiter_start_watchers"))
    assert checks == []
    asyncio.run(check_during(None))
    assert checks == [True]
