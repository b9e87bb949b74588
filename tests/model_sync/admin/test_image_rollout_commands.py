from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.commands import Commands
from model_sync.admin.image_rollout_commands import ImageRolloutCommand
from model_sync.errors import CommandError
from model_sync.rollout.state import Image, Phase, Rollout, State
from model_sync.rollout.wishes import Wishes

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def commands(writer: StoreWriter) -> Commands:
    return Commands(writer)


def under_way(writer: StoreWriter, phase: Phase = "rolling", waiting: str | None = None) -> None:
    current = Rollout(number=3, new=Image(name="new"), old=Image(name="old"), wanted=2, phase=phase, began=AT)
    State(current=current, waiting=waiting, replaced=1, at=time.time()).write(writer.layout.rollout_state)


def wishes(writer: StoreWriter) -> Wishes:
    return Wishes.read(writer.layout.rollout_wishes)


def test_without_a_rollout(writer: StoreWriter, commands: Commands) -> None:
    status = commands.image_rollout_status()
    assert (status.rollout, status.alive, status.paused) == (None, False, False)
    assert commands.image_rollout("start").rollout is None
    assert commands.image_rollout("start").paused is False
    assert wishes(writer).start == 2


def test_the_status(writer: StoreWriter, commands: Commands) -> None:
    under_way(writer, waiting="3/2")
    status = commands.image_rollout_status()
    assert status.rollout is not None
    assert (status.alive, status.replaced, status.waiting, status.rollout.number) == (True, 1, "3/2", 3)


def test_pause_and_resume(writer: StoreWriter, commands: Commands) -> None:
    assert commands.image_rollout("pause").paused
    assert wishes(writer).paused
    assert not commands.image_rollout("resume").paused


@pytest.mark.parametrize(
    ("command", "phase", "field", "value"),
    [
        ("approve", "rolling", "approved", "3/2"),
        ("cancel", "rolling", "cancelled", 3),
        ("cancel", "going_back", "cancelled", 3),
        ("undo", "done", "undone", 3),
    ],
)
def test_wishes(
    writer: StoreWriter, commands: Commands, command: ImageRolloutCommand, phase: Phase, field: str, value: object
) -> None:
    under_way(writer, phase, waiting="3/2")
    commands.image_rollout(command)
    assert getattr(wishes(writer), field) == value
    [event] = writer.history.read()
    assert (event.kind, event.model, event.reason, event.rollout, event.by) == (
        "rollout_command",
        "all",
        command,
        3,
        "operator",
    )


@pytest.mark.parametrize(
    ("command", "phase", "kind"),
    [
        ("approve", "rolling", "nothing"),
        ("cancel", "done", "nothing"),
        ("undo", "rolling", "busy"),
        ("undo", "rolled_back", "nothing"),
    ],
)
def test_what_there_is_not(
    writer: StoreWriter, commands: Commands, command: ImageRolloutCommand, phase: Phase, kind: str
) -> None:
    under_way(writer, phase)
    with pytest.raises(CommandError) as raised:
        commands.image_rollout(command)
    assert raised.value.kind == kind
    assert wishes(writer) == Wishes()
    assert list(writer.history.read()) == []


def test_files_that_cannot_be_read_are_errors(writer: StoreWriter, commands: Commands) -> None:
    writer.layout.rollout_wishes.write_text("x: [", encoding="utf-8")
    with pytest.raises(CommandError, match="cannot be read"):
        commands.image_rollout("start")
    with pytest.raises(CommandError):
        commands.image_rollout_status()
