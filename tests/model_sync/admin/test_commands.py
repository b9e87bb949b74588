from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import CancelledImport, ModelGeneration
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.promotion import PromotionError, promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from model_sync.admin import commands as commands_module
from model_sync.admin.commands import Commands
from model_sync.admin.results import Cancelled, Removed
from model_sync.errors import CommandError, ImportCancelledError
from model_sync.importing.cancellation import Cancellation
from model_sync.stop_event import StopEvent
from tests.bunriwiki.model_store.workers import failed, loading, prepared, worker
from tests.model_sync.triggers.fakes import FakeSyncRequests

MakeVersion = Callable[..., Path]


@pytest.fixture
def commands(writer: StoreWriter, make_version: MakeVersion) -> Commands:
    """The commands on a store in which v1, v2 and v3 of yolo served, one after the other."""
    for version in ("v1", "v2", "v3"):
        writer.publish(make_version("yolo", version), f"s3://bucket/{version}", "poll", digest_there=f"d-{version}")
        promote(writer, "yolo", version, f"s3://bucket/{version}", "poll")
    return Commands(writer)


def now(writer: StoreWriter, model: str = "yolo") -> ModelGeneration:
    return writer.generations().of(model)


def serving(writer: StoreWriter, model: str = "yolo") -> str | None:
    found = now(writer, model).serving
    return found.version if found else None


def last_events(writer: StoreWriter, number: int) -> list[Event]:
    return list(writer.history.read("yolo"))[-number:]


def reject(kind: str, words: str, command: Callable[[], object]) -> None:
    with pytest.raises(CommandError, match=words) as caught:
        command()
    assert caught.value.kind == kind


def test_a_rollback_goes_to_the_version_before(commands: Commands, writer: StoreWriter) -> None:
    with worker(writer, "one", prepared), worker(writer, "two", prepared):
        done = commands.rollback("yolo")
    assert (done.left, done.to, done.workers) == ("v3", "v2", 2)
    assert done.model_dump(mode="json").keys() == {"model", "from", "to", "workers", "seconds"}
    assert 0 < done.seconds < 5
    state = now(writer)
    assert state.serving
    assert (state.serving.version, state.serving.source, state.serving.by) == ("v2", "s3://bucket/v2", "operator")
    assert (state.held, state.previous) == (("v3",), None)
    activated, held = last_events(writer, 2)
    assert (activated.kind, activated.version, activated.by, activated.workers) == ("activated", "v2", "operator", 2)
    assert (held.kind, held.version, held.by) == ("held", "v3", "operator")


def test_a_second_rollback_goes_further_back_in_the_history(commands: Commands, writer: StoreWriter) -> None:
    commands.rollback("yolo")
    assert commands.rollback("yolo").to == "v1"
    assert now(writer).held == ("v3", "v2")


def test_the_last_version_to_go_back_to_is_the_fallback(commands: Commands, writer: StoreWriter) -> None:
    for version in ("v2", "v1"):
        commands.rollback("yolo")
        assert serving(writer) == version
    with worker(writer, "one", prepared):
        done = commands.rollback("yolo")
    assert (done.left, done.to, done.workers) == ("v1", FALLBACK, 1)
    state = now(writer)
    assert state.serving
    assert (state.serving.version, state.serving.source, state.serving.by) == (FALLBACK, "bundled", "operator")
    assert (state.generation, state.previous, state.held) == (6, None, ("v3", "v2", "v1"))
    activated, held = last_events(writer, 2)
    assert (activated.kind, activated.version, activated.generation) == ("activated", FALLBACK, 6)
    assert (held.kind, held.version) == ("held", "v1")
    reject("nothing", "yolo serves its fallback version", lambda: commands.rollback("yolo"))
    assert (serving(writer), now(writer).held) == (FALLBACK, ("v3", "v2", "v1"))


@pytest.mark.parametrize("name", [FALLBACK, BUNDLED_VERSION])
def test_the_fallback_may_be_named_as_the_store_or_as_the_workers_name_it(
    commands: Commands, writer: StoreWriter, name: str
) -> None:
    with worker(writer, "one", prepared):
        assert commands.rollback("yolo", name).to == FALLBACK
        reject("serving", "fallback of yolo serves already", lambda: commands.rollback("yolo", name))
        assert commands.pin("yolo", name).version == FALLBACK
    assert (serving(writer), now(writer).held, now(writer).pinned) == (FALLBACK, ("v3",), True)
    assert now(writer).generation == 4


def test_a_held_version_may_follow_the_fallback(commands: Commands, writer: StoreWriter) -> None:
    commands.rollback("yolo", FALLBACK)
    assert (commands.rollback("yolo", "v3").left, serving(writer)) == (FALLBACK, "v3")
    state = now(writer)
    assert state.previous
    assert (state.previous.version, state.held) == (FALLBACK, ())  # the fallback is never held
    assert commands.rollback("yolo").to == FALLBACK


def test_a_rollback_to_the_fallback_that_cannot_be_loaded_changes_nothing(commands: Commands, writer: StoreWriter) -> None:
    with worker(writer, "one", failed):
        reject("cannot_load", "one cannot load yolo:fallback", lambda: commands.rollback("yolo", FALLBACK))
    assert (serving(writer), now(writer).held) == ("v3", ())


def test_a_version_of_the_store_serves_instead_of_the_fallback_if_it_is_named(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("kcbert", "v1"), "a test", "poll")
    assert commands.rollback("kcbert", "v1").left == FALLBACK
    assert serving(writer, "kcbert") == "v1"


def test_a_rollback_to_a_named_version(commands: Commands, writer: StoreWriter) -> None:
    assert commands.rollback("yolo", "v1").to == "v1"
    state = now(writer)
    assert state.previous
    assert (state.previous.version, state.held) == ("v2", ("v3",))  # a held version does not become the previous one


def test_a_held_version_may_be_named(commands: Commands, writer: StoreWriter) -> None:
    commands.rollback("yolo")
    assert commands.rollback("yolo", "v3").left == "v2"
    assert (serving(writer), now(writer).held) == ("v3", ("v2",))


def test_a_rollback_skips_versions_in_quarantine(commands: Commands, writer: StoreWriter) -> None:
    commands.quarantine("yolo", "v2", "it is slow")
    assert commands.rollback("yolo").to == "v1"


def test_a_rollback_skips_versions_that_are_not_on_disk(commands: Commands, writer: StoreWriter) -> None:
    writer.layout.version("yolo", "v2").rename(writer.layout.staging / "gone")
    assert commands.rollback("yolo").to == "v1"


def test_a_rollback_from_the_fallback_version_is_rejected(commands: Commands) -> None:
    reject("nothing", "kcbert serves its fallback version", lambda: commands.rollback("kcbert"))


@pytest.mark.parametrize(
    ("model", "version", "kind", "words"),
    [
        ("resnet", None, "unknown", "The models are yolo, kcbert, sentiment"),
        ("../yolo", None, "unknown", "There is no model"),
        ("yolo", "v9", "unknown", "yolo v9 is not on disk"),
        ("yolo", "../v1", "invalid", "'../v1' is no version"),
        ("yolo", "V1", "invalid", "in lower case"),
        ("yolo", "", "invalid", "is no version"),
        ("yolo", "v3", "serving", "v3 of yolo serves already"),
    ],
)
def test_a_rollback_to_an_unavailable_version_is_rejected(
    commands: Commands, writer: StoreWriter, model: str, version: str | None, kind: str, words: str
) -> None:
    reject(kind, words, lambda: commands.rollback(model, version))
    assert (serving(writer), now(writer).held) == ("v3", ())


def test_a_rollback_to_a_version_in_quarantine_is_rejected(commands: Commands) -> None:
    commands.quarantine("yolo", "v1", "it is slow")
    reject("quarantined", "it is slow. Release it first", lambda: commands.rollback("yolo", "v1"))


def test_a_rollback_to_a_version_that_cannot_be_loaded_changes_nothing(commands: Commands, writer: StoreWriter) -> None:
    with worker(writer, "one", failed):
        reject("cannot_load", "one cannot load yolo:v2: no space left", lambda: commands.rollback("yolo"))
    state = now(writer)
    assert state.previous
    assert (serving(writer), state.held, state.preparing, state.previous.version) == ("v3", (), None, "v2")


def test_a_rollback_that_exceeds_the_deadline_changes_nothing(
    commands: Commands, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "promote", lambda *args, **options: promote(*args, **options, deadline=0.3))
    with worker(writer, "one", loading):
        reject("cannot_load", "none of 1 workers had loaded", lambda: commands.rollback("yolo"))
    assert (serving(writer), now(writer).held) == ("v3", ())


def test_a_rollback_that_fails_on_a_full_disk_changes_nothing(
    commands: Commands, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "prepare", full)
        reject("failed", "No space left", lambda: commands.rollback("yolo"))
    assert (serving(writer), now(writer).held) == ("v3", ())


def test_a_rollback_that_fails_after_the_activation_stays(
    commands: Commands, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "record_activation", full)
        reject("failed", "No space left", lambda: commands.rollback("yolo"))
    assert (serving(writer), now(writer).held) == ("v2", ("v3",))


def test_a_sync_that_prepares_a_version_meanwhile_does_not_stop_a_rollback(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "poll")
    slow = threading.Event()

    def v2_slowly(version: str) -> dict[str, object]:
        return loading(version) if version == "v4" or not slow.is_set() else prepared(version)

    with worker(writer, "one", v2_slowly), ThreadPoolExecutor() as pool:
        rollback = pool.submit(commands.rollback, "yolo")
        wait_until(lambda: (target := now(writer).preparing) is not None and target.version == "v2")
        sync = pool.submit(promote, writer, "yolo", "v4", "a test", "poll")
        wait_until(lambda: (target := now(writer).preparing) is not None and target.version == "v2" and not rollback.done())
        with pytest.raises(PromotionError, match="yolo:v4 is no longer wanted"):
            sync.result(10)
        slow.set()
        assert rollback.result(10).to == "v2"
    assert (serving(writer), now(writer).held) == ("v2", ("v3",))


def test_a_rollback_does_not_leave_a_version_that_began_to_serve_meanwhile(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "poll")

    def only_v4(version: str) -> dict[str, object]:
        return prepared(version) if version == "v4" else loading(version)

    with worker(writer, "one", only_v4), ThreadPoolExecutor() as pool:
        rollback = pool.submit(commands.rollback, "yolo")
        wait_until(lambda: now(writer).preparing)
        _activate_at_once(writer, "v4")
        with pytest.raises(CommandError, match="v4 of yolo serves now") as caught:
            rollback.result(10)
    assert caught.value.kind == "superseded"
    assert serving(writer) == "v4"


def _activate_at_once(writer: StoreWriter, version: str) -> None:
    """What a sync does whose workers load the version between two checks of the rollback."""
    target = now(writer).preparing
    assert target
    newer = target.model_copy(update={"version": version, "by": "poll"})
    writer.change(lambda old: old.prepare("yolo", newer).activate("yolo", newer))


def test_a_second_rollback_during_the_first_is_rejected(commands: Commands, writer: StoreWriter) -> None:
    done = threading.Event()

    def slowly(version: str) -> dict[str, object]:
        return prepared(version) if done.is_set() else loading(version)

    with worker(writer, "one", slowly), ThreadPoolExecutor() as pool:
        first = pool.submit(commands.rollback, "yolo")
        wait_until(lambda: now(writer).preparing)
        reject("busy", "Another command for yolo is under way", lambda: commands.rollback("yolo"))
        reject("nothing", "kcbert", lambda: commands.rollback("kcbert"))  # other models are not locked
        done.set()
        assert first.result(10).to == "v2"
    assert serving(writer) == "v2"


def test_a_pin_keeps_the_serving_version_and_ends_a_promotion(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "poll")
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        sync = pool.submit(promote, writer, "yolo", "v4", "a test", "poll")
        wait_until(lambda: now(writer).preparing)
        assert commands.pin("yolo").version == "v3"
        with pytest.raises(PromotionError, match="no longer wanted"):
            sync.result(10)
    assert (now(writer).pinned, serving(writer), now(writer).preparing) == (True, "v3", None)
    [pinned] = [event for event in writer.history.read("yolo") if event.kind == "pinned"]
    assert (pinned.version, pinned.by) == ("v3", "operator")


def test_a_pin_to_another_version_promotes_it(commands: Commands, writer: StoreWriter) -> None:
    with worker(writer, "one", prepared):
        done = commands.pin("yolo", "v1")
    assert (done.version, done.workers, serving(writer), now(writer).pinned) == ("v1", 1, "v1", True)


def test_a_pin_to_a_version_that_cannot_be_loaded_pins_nothing(commands: Commands, writer: StoreWriter) -> None:
    with worker(writer, "one", failed):
        reject("cannot_load", "no space left", lambda: commands.pin("yolo", "v1"))
    assert (now(writer).pinned, serving(writer)) == (False, "v3")
    assert "pinned" not in [event.kind for event in writer.history.read("yolo")]


def test_the_fallback_version_can_be_pinned(commands: Commands, writer: StoreWriter) -> None:
    assert commands.pin("kcbert").version == commands.pin("kcbert", FALLBACK).version == FALLBACK
    assert (now(writer, "kcbert").pinned, now(writer, "kcbert").generation) == (True, 0)
    assert commands.pin("yolo", FALLBACK).version == FALLBACK
    assert (serving(writer), now(writer).pinned) == (FALLBACK, True)


def test_a_second_pin_is_not_recorded(commands: Commands, writer: StoreWriter) -> None:
    commands.pin("yolo")
    commands.pin("yolo", "v3")
    assert [event.kind for event in writer.history.read("yolo")].count("pinned") == 1


def test_unpinning_releases_held_versions_and_requests_a_sync(commands: Commands, writer: StoreWriter) -> None:
    syncs = FakeSyncRequests()
    commands = Commands(writer, syncs)
    commands.rollback("yolo")
    commands.pin("yolo")
    done = commands.unpin("yolo")
    assert (done.was_pinned, done.released) == (True, ("v3",))
    assert (now(writer).pinned, now(writer).held) == (False, ())
    assert syncs.calls == [("operator", ["yolo"], False)]
    assert last_events(writer, 1)[0].kind == "unpinned"


def test_unpinning_a_model_that_is_not_pinned_changes_nothing(commands: Commands, writer: StoreWriter) -> None:
    before = len(list(writer.history.read()))
    done = commands.unpin("yolo")
    assert (done.was_pinned, done.released, len(list(writer.history.read()))) == (False, (), before)


def test_a_quarantined_version_has_the_digest_of_the_registry(commands: Commands, writer: StoreWriter) -> None:
    entry = commands.quarantine("yolo", "v2", "it takes bottles for cans")
    assert writer.quarantine.find("yolo", "v2") == entry
    assert (entry.digest, entry.reason) == ("d-v2", "it takes bottles for cans")
    assert [event.by for event in writer.history.read("yolo") if event.kind == "quarantined"] == ["operator"]


def test_a_version_that_was_published_by_hand_can_be_quarantined(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "operator")
    assert len(commands.quarantine("yolo", "v4", "it is slow").digest) == 64


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("v3", "serving", "v3 serves: roll yolo back first"),
        ("v9", "unknown", "not on disk"),
        ("../v1", "invalid", "no version"),
        (FALLBACK, "invalid", "the last one to go back to"),
    ],
)
def test_a_serving_or_missing_version_is_not_quarantined(
    commands: Commands, writer: StoreWriter, version: str, kind: str, words: str
) -> None:
    reject(kind, words, lambda: commands.quarantine("yolo", version, "it is slow"))
    assert writer.quarantine.all() == []


def test_quarantine_ends_the_promotion_of_the_version(
    commands: Commands, writer: StoreWriter, make_version: MakeVersion
) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "poll")
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        sync = pool.submit(promote, writer, "yolo", "v4", "a test", "poll")
        wait_until(lambda: now(writer).preparing)
        commands.quarantine("yolo", "v4", "it is slow")
        with pytest.raises(PromotionError, match="no longer wanted"):
            sync.result(10)
    assert (serving(writer), now(writer).preparing) == ("v3", None)


def test_quarantine_ends_the_pause_of_the_version(commands: Commands, writer: StoreWriter, make_version: MakeVersion) -> None:
    writer.publish(make_version("yolo", "v4"), "a test", "poll")
    writer.change(lambda old: old.pause("yolo", "v4"))
    commands.quarantine("yolo", "v2", "it is slow")
    assert now(writer).paused == "v4"
    commands.quarantine("yolo", "v4", "it is slow")
    assert now(writer).paused is None


def test_cancelling_without_an_import_is_rejected(commands: Commands, writer: StoreWriter) -> None:
    reject("nothing", "No import of yolo is under way", lambda: commands.cancel("yolo"))
    idle = Commands(writer, cancellations={"yolo": Cancellation(StopEvent())})
    reject("nothing", "No import of yolo is under way", lambda: idle.cancel("yolo"))
    reject("unknown", "There is no model", lambda: idle.cancel("resnet"))
    assert now(writer).cancelled is None


def cancel_if_running(commands: Commands) -> Cancelled | None:
    """Cancel the import, once it is under way."""
    try:
        return commands.cancel("yolo")
    except CommandError:
        return None


def test_a_cancelled_import_is_recorded(writer: StoreWriter) -> None:
    cancellation = Cancellation(StopEvent())
    commands = Commands(writer, cancellations={"yolo": cancellation})

    def run() -> None:
        with cancellation.importing("v4", "d4"):
            cancellation.stop.wait(10)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(run)
        wait_until(lambda: cancel_if_running(commands))
        with pytest.raises(ImportCancelledError):
            running.result(0)
    assert now(writer).cancelled == CancelledImport(version="v4", digest="d4")
    [event] = last_events(writer, 1)
    assert (event.kind, event.version, event.by) == ("cancelled", "v4", "operator")


def test_a_cancellation_that_fails_on_a_full_disk_changes_nothing(writer: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cancellation = Cancellation(StopEvent())
    with cancellation.importing("v4", "d4"), monkeypatch.context() as patch:
        patch.setattr(writer, "change", full)
        commands = Commands(writer, cancellations={"yolo": cancellation})
        reject("failed", "No space left", lambda: commands.cancel("yolo"))
        assert not cancellation.stop.is_set()
    assert now(writer).cancelled is None


def test_a_version_is_released(commands: Commands, writer: StoreWriter) -> None:
    commands.quarantine("yolo", "v2", "it is slow")
    commands.release("yolo", "v2")
    assert writer.quarantine.all() == []
    reject("unknown", "yolo v2 is not in quarantine", lambda: commands.release("yolo", "v2"))
    reject("invalid", "no version", lambda: commands.release("yolo", "../v2"))


def test_gc_reports_sizes_and_keeps_held_versions(commands: Commands, writer: StoreWriter, make_version: MakeVersion) -> None:
    commands.rollback("yolo")
    writer.heartbeats.write(Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready", loaded={"v1": "available"}))
    for version in ("v4", "v5", "v6"):
        writer.publish(make_version("yolo", version), "a test", "poll")
    assert commands.gc().removed == ()  # a worker has it in memory
    size = sum(path.stat().st_size for path in writer.layout.version("yolo", "v1").rglob("*") if path.is_file())
    writer.heartbeats.forget("one")
    assert commands.gc().removed == (Removed(model="yolo", version="v1", size_bytes=size),)
    assert sorted(writer.layout.versions("yolo")) == ["v2", "v3", "v4", "v5", "v6"]  # v3 is held
