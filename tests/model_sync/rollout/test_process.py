from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bunriwiki.model_store.layout import Layout
from model_sync.rollout.process import keep_stepping, tidy
from model_sync.rollout.state import State, StateError
from tests.model_sync.rollout.conftest import Rig


class StopAfter(threading.Event):
    """Is set after it was waited for so many times."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.left = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.set()
        return self.is_set()


def test_steps_until_it_is_stopped(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    keep_stepping(rig.controller, StopAfter(3))
    assert rig.rollout() is not None
    assert rig.state().at > 0


def test_a_full_disk_does_not_end_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(State, "write", full)
    keep_stepping(rig.controller, StopAfter(3))


def test_leftovers_of_a_dead_process_are_deleted(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.rollout.mkdir()
    leftover = layout.rollout / ".state.json.0123"
    leftover.touch()
    tidy(layout)
    assert not leftover.exists()


def test_a_damaged_state_stops_the_start(rig: Rig) -> None:
    rig.layout.rollout_state.parent.mkdir(exist_ok=True)
    rig.layout.rollout_state.write_text("{", encoding="utf-8")
    with pytest.raises(StateError, match="a rollout begins anew"):
        rig.restart()
