"""What the commands do without the thread of a sync, which tests/model_sync/live/test_canary.py adds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Canary, ModelGeneration, Target, Trigger
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin import rollout_commands
from model_sync.admin.commands import Commands
from model_sync.errors import CommandError

SHARE = Canary(share=0.1)


@pytest.fixture
def commands(writer: StoreWriter, make_version: Callable[..., Path]) -> Commands:
    """The commands on a store in which v1 of yolo serves, and v2 is on disk."""
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    promote(writer, "yolo", "v1", "a test", "poll")
    return Commands(writer)


def prepare(writer: StoreWriter, canary: Canary | None = SHARE, by: Trigger = "poll") -> Target:
    """What a sync does: v2 is a canary."""
    target = Target(version="v2", since=datetime.now(UTC), source="a test", by=by)
    writer.change(lambda old: old.prepare("yolo", target).start_canary("yolo", canary))
    return target


def now(writer: StoreWriter) -> ModelGeneration:
    return writer.generations().of("yolo")


def kinds(writer: StoreWriter) -> list[str]:
    return [str(event.kind) for event in writer.history.read("yolo")][3:]  # after the fixture's own


@pytest.mark.parametrize("command", ["pause", "resume", "promote", "abort"])
def test_without_a_promotion_there_is_nothing_to_do(commands: Commands, writer: StoreWriter, command: str) -> None:
    before = writer.generations()
    for model, kind in (("yolo", "nothing"), ("resnet", "unknown")):
        with pytest.raises(CommandError) as rejected:
            getattr(commands, command)(model)
        assert rejected.value.kind == kind
    assert (writer.generations(), kinds(writer)) == (before, [])


@pytest.mark.parametrize("command", ["pause", "resume", "promote"])
def test_a_version_that_is_being_loaded_is_not_a_canary(commands: Commands, writer: StoreWriter, command: str) -> None:
    prepare(writer, None)
    with pytest.raises(CommandError, match="yolo has no canary at the moment"):
        getattr(commands, command)("yolo")


def test_a_second_pause_is_not_recorded(commands: Commands, writer: StoreWriter) -> None:
    prepare(writer)
    assert [commands.pause("yolo").version for _ in range(2)] == ["v2", "v2"]
    assert (now(writer).paused, kinds(writer)) == ("v2", ["paused"])


def test_a_canary_that_is_not_paused_can_be_resumed(commands: Commands, writer: StoreWriter) -> None:
    prepare(writer)
    done = commands.resume("yolo")
    assert (done.version, done.was_paused, kinds(writer)) == ("v2", False, [])


def test_a_pause_can_be_ended_while_the_canary_is_not_running(commands: Commands, writer: StoreWriter) -> None:
    prepare(writer)
    commands.pause("yolo")
    writer.change(lambda old: old.prepare("yolo", None))  # the sidecar started again, and has not synced yet
    assert (commands.resume("yolo").version, now(writer).paused) == ("v2", None)


def test_a_canary_that_is_not_activated_in_time_goes_on(
    commands: Commands, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_commands, "ACTIVATION_SECONDS", 0.0)
    target = prepare(writer)
    commands.pause("yolo")
    with pytest.raises(CommandError, match="v2 was not activated in time"):
        commands.promote("yolo")
    state = now(writer)
    assert (state.preparing, state.canary, state.paused, kinds(writer)) == (target, SHARE, "v2", ["paused"])


def test_a_canary_that_ended_meanwhile_is_not_promoted(
    commands: Commands, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(writer)

    def failed(_: float) -> None:
        writer.change(lambda old: old.prepare("yolo", None))

    monkeypatch.setattr("model_sync.admin.rollout_commands.time.sleep", failed)
    with pytest.raises(CommandError, match="The canary of v2 had just ended") as rejected:
        commands.promote("yolo")
    assert (rejected.value.kind, kinds(writer)) == ("superseded", [])


def test_a_promotion_without_a_canary_can_be_aborted(commands: Commands, writer: StoreWriter) -> None:
    prepare(writer, None)
    writer.change(lambda old: old.hold("yolo", "v2", "v3"))
    assert commands.abort("yolo").version == "v2"
    assert (now(writer).held, now(writer).preparing, kinds(writer)) == (("v3", "v2"), None, ["held"])


def test_the_rollback_of_the_monitor_is_not_aborted(commands: Commands, writer: StoreWriter) -> None:
    target = prepare(writer, None, "monitor")
    with pytest.raises(CommandError, match="No promotion of yolo is under way"):
        commands.abort("yolo")
    assert (now(writer).preparing, now(writer).held) == (target, ())
