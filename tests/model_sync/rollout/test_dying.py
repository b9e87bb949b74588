"""The process dies at any write to the disk and at any call to the engine: the next one completes the rollout."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bunriwiki.model_store.layout import Layout
from model_sync.rollout.process import tidy
from tests.model_sync.rollout.conftest import OBSERVE_SECONDS, Rig
from tests.model_sync.rollout.fakes import BASE, FakeEngine

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

MAX_STEPS = 80
CALLS = ("start", "start_trial", "retire", "build", "prune")


class DiedError(BaseException):
    """The process ends here."""


class Deaths:
    """Raises DiedError at the step `at`; `after` tells whether the step's effect remains."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._at = at
        self._after = after
        self.steps = itertools.count()
        self.died = False

    def around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: Any, **named: Any) -> Any:
            dies = next(self.steps) == self._at
            if dies and not self._after:
                self.died = True
                raise DiedError
            result = step(*arguments, **named)
            if dies:
                self.died = True
                raise DiedError
            return result

        return dying


def go_on(rig: Rig) -> None:
    """Step until the rollout is over; replicas become ready by themselves."""
    for _ in range(MAX_STEPS):
        rig.step(OBSERVE_SECONDS)
        for running in rig.engine.running.values():
            running.ready = True
        current = rig.rollout()
        if current and current.is_over:
            return


def died_at(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, *, after: bool, rolls_back: bool) -> tuple[Rig, bool]:
    engine = FakeEngine()
    rig = Rig(Layout(folder / "store"), engine)
    rig.serve("v2")
    rig.settle()
    deaths = Deaths(at, after=after)
    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(engine, name, deaths.around(getattr(engine, name)))
        sync: Callable[[FileDescriptorLike], None] = os.fsync
        patch.setattr(os, "fsync", deaths.around(sync))
        try:
            if rolls_back:
                rig.until("repository:v2").ready = True
                patch.setattr(os, "fsync", sync)
                rig.serve("v1", held=("v2",))
                patch.setattr(os, "fsync", deaths.around(sync))
            go_on(rig)
        except DiedError:
            pass
    tidy(rig.layout)
    rig.restart()
    if rolls_back and deaths.died:
        rig.serve("v1", held=("v2",))
    go_on(rig)
    return rig, deaths.died


@pytest.mark.parametrize("after", [False, True], ids=["before it took effect", "after"])
@pytest.mark.parametrize("rolls_back", [False, True], ids=["to its end", "turned round"])
def test_any_step_may_be_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, rolls_back: bool) -> None:
    for at in itertools.count():
        rig, died = died_at(tmp_path / str(at), at, monkeypatch, after=after, rolls_back=rolls_back)
        current = rig.rollout()
        assert current is not None, at
        assert current.is_over, at
        images = {BASE} if current.phase == "rolled_back" else {current.new.name}
        assert set(rig.images()) == images, at
        assert len(rig.images()) == 2, at
        assert rig.engine.dropped == 0, at
        assert not list(rig.layout.rollout.glob(".*")), at
        if not died:
            break
    assert at > 15
