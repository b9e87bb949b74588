from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from bunriwiki.model_store import promotion
from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.promotion import BadVersionError, CannotLoadError, PromotionError, promote
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.testing.waiting import wait_until
from tests.bunriwiki.model_store.workers import Prepare, failed, loading, prepared, worker


def is_preparing(writer: StoreWriter, version: str) -> Callable[[], bool]:
    """A condition: the workers of yolo are to load `version`."""

    def check() -> bool:
        target = writer.generations().of("yolo").preparing
        return target is not None and target.version == version

    return check


@pytest.fixture(autouse=True)
def published(writer: StoreWriter, make_version: Callable[..., Path]) -> None:
    for model in ("yolo", "kcbert"):
        for version in ("v1", "v2"):
            writer.publish(make_version(model, version), "a test", "operator")


def test_without_workers_the_version_serves_at_once(writer: StoreWriter) -> None:
    assert promote(writer, "yolo", "v1", "a test", "operator") == 0
    now = writer.generations().of("yolo")
    assert now.serving
    assert (now.generation, now.serving.version, now.preparing) == (1, "v1", None)


def test_a_serving_version_is_not_promoted_again(writer: StoreWriter) -> None:
    for version in ("v1", "v2", "v2"):
        promote(writer, "yolo", version, "a test", "operator")
    now = writer.generations().of("yolo")
    assert now.previous
    assert (now.generation, now.previous.version) == (2, "v1")


def test_the_workers_that_have_a_serving_version_are_counted(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    for number, (role, version) in enumerate([("yolo", "v1"), ("yolo", "v1"), ("yolo", "v2"), ("kcbert", "v1")]):
        beat = Heartbeat(worker=f"w{number}", pid=1, parent=1, role=role, state="ready", loaded={version: "available"})
        writer.heartbeats.write(beat)
    assert promote(writer, "yolo", "v1", "a test", "operator") == 2


def test_promoting_the_serving_version_ends_another_promotion(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        newer: Future[int] = pool.submit(promote, writer, "yolo", "v2", "a test", "poll")
        wait_until(is_preparing(writer, "v2"))
        promote(writer, "yolo", "v1", "a test", "operator")
        with pytest.raises(PromotionError, match="yolo:v2 is no longer wanted"):
            newer.result(5)
    now = writer.generations().of("yolo")
    assert now.serving
    assert (now.serving.version, now.generation, now.preparing) == ("v1", 1, None)


def test_an_unpublished_version_is_not_promoted(writer: StoreWriter) -> None:
    with pytest.raises(PromotionError, match="yolo:v9 is not in the store"):
        promote(writer, "yolo", "v9", "a test", "operator")


def test_a_promotion_waits_for_every_live_worker(writer: StoreWriter) -> None:
    done = threading.Event()
    steps: list[str] = []

    def slowly(version: str) -> dict[str, object]:
        return prepared(version) if done.is_set() else loading(version)

    with worker(writer, "one", prepared), worker(writer, "two", slowly), ThreadPoolExecutor() as pool:
        promoted: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator", progress=steps.append)
        with pytest.raises(TimeoutError):
            promoted.result(0.3)
        assert writer.generations().of("yolo").generation == 0
        done.set()
        assert promoted.result(5) == 2
    assert steps == ["preparing", "prepared", "activated"]
    *_, event = writer.history.read()
    assert (event.kind, event.workers) == ("activated", 2)


def test_a_slow_worker_is_left_behind_at_the_deadline(writer: StoreWriter) -> None:
    with worker(writer, "one", prepared), worker(writer, "two", loading):
        assert promote(writer, "yolo", "v1", "a test", "operator", deadline=0.3) == 1


def test_a_dead_worker_is_not_waited_for(writer: StoreWriter) -> None:
    with worker(writer, "one", prepared), ThreadPoolExecutor() as pool:
        with worker(writer, "two", loading):
            promoted: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator")
            with pytest.raises(TimeoutError):
                promoted.result(0.3)
        writer.heartbeats.forget("two")
        assert promoted.result(5) == 1


@pytest.mark.parametrize("jump", [6.0, 86_400.0])
def test_a_clock_that_jumps_promotes_nothing_that_no_worker_has_prepared(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    with worker(writer, "one", loading), worker(writer, "two", loading):
        assert len(writer.heartbeats.alive()) == 2
    now = time.time()  # from here on no worker has written, and all heartbeats look old at once
    monkeypatch.setattr(time, "time", lambda: now + jump)
    with pytest.raises(PromotionError, match="none of 2 workers had loaded"):
        promote(writer, "yolo", "v1", "a test", "operator", deadline=0.3)
    assert writer.generations().of("yolo").serving is None


def test_a_worker_that_is_ending_is_not_waited_for(writer: StoreWriter) -> None:
    writer.heartbeats.write(Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ending"))
    assert promote(writer, "yolo", "v1", "a test", "operator", deadline=0) == 0


@pytest.mark.parametrize(
    ("others", "error", "message"),
    [
        ({}, CannotLoadError, "one cannot load yolo:v1: disk"),
        ({"two": "loading"}, CannotLoadError, "one cannot load yolo:v1: disk"),
        ({"two": "available", "three": "available"}, PromotionError, "one cannot load yolo:v1: disk; 2 others can"),
    ],
    ids=["alone", "another is loading", "others can"],
)
def test_a_version_that_other_workers_have_prepared_is_not_at_fault(
    writer: StoreWriter, others: dict[str, str], error: type[Exception], message: str
) -> None:
    def report(_: str) -> None:
        preparing = writer.generations().of("yolo").preparing
        assert preparing
        beat = Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready", preparing=preparing.since)
        writer.heartbeats.write(beat.model_copy(update={"errors": {"v1": "disk"}}))
        for name, loaded in others.items():
            writer.heartbeats.write(beat.model_copy(update={"worker": name, "loaded": {"v1": loaded}}))

    with pytest.raises(PromotionError) as caught:
        promote(writer, "yolo", "v1", "a test", "operator", progress=report)
    assert (type(caught.value), str(caught.value)) == (error, message)


@pytest.mark.parametrize(
    ("prepare", "reason"), [(failed, "one cannot load yolo:v1: no space left"), (loading, "none of 1 workers")]
)
def test_a_version_that_cannot_be_loaded_is_not_promoted(writer: StoreWriter, prepare: Prepare, reason: str) -> None:
    with worker(writer, "one", prepare), pytest.raises(PromotionError, match=reason):
        promote(writer, "yolo", "v1", "a test", "operator", deadline=0.5)
    now = writer.generations().of("yolo")
    assert (now.generation, now.preparing) == (0, None)
    *_, event = writer.history.read()
    assert event.kind == "abandoned"
    assert reason in (event.reason or "")


def test_a_heartbeat_from_before_the_promotion_does_not_count(writer: StoreWriter) -> None:
    heartbeat = Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready", loaded={"v1": "available"})
    writer.heartbeats.write(heartbeat)
    with pytest.raises(PromotionError, match="none of 1 workers"):
        promote(writer, "yolo", "v1", "a test", "operator", deadline=0.2)


def test_a_newer_promotion_replaces_an_older_one(writer: StoreWriter) -> None:
    def only_the_second(version: str) -> dict[str, object]:
        return prepared(version) if version == "v2" else loading(version)

    with worker(writer, "one", only_the_second), ThreadPoolExecutor() as pool:
        first: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator")
        wait_until(is_preparing(writer, "v1"))
        assert promote(writer, "yolo", "v2", "a test", "operator") == 1
        with pytest.raises(PromotionError, match="yolo:v1 is no longer wanted"):
            first.result(5)
    serving = writer.generations().of("yolo").serving
    assert serving
    assert serving.version == "v2"


def test_what_comes_before_the_activation_may_take_longer_than_the_deadline(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    passed = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, sleep=time.sleep)
    monkeypatch.setattr(promotion, "time", clock)

    def take_an_hour(target: Target) -> None:
        nonlocal passed
        passed += 3600
        seen.append((target.version, writer.generations().of("yolo").generation))

    with worker(writer, "one", prepared):
        assert promote(writer, "yolo", "v1", "a test", "operator", before_activation=take_an_hour) == 1
    assert seen == [("v1", 0)]
    assert writer.generations().of("yolo").generation == 1


@pytest.mark.parametrize("error", [BadVersionError("too slow"), SupersededError("yolo:v1 is no longer wanted")])
def test_what_comes_before_the_activation_may_reject_the_version(writer: StoreWriter, error: Exception) -> None:
    def reject(target: Target) -> None:
        writer.start_canary("yolo", target, Canary(share=0.1))
        raise error

    with pytest.raises(PromotionError, match=str(error)) as raised:
        promote(writer, "yolo", "v1", "a test", "operator", before_activation=reject)
    assert isinstance(raised.value, BadVersionError) == isinstance(error, BadVersionError)
    now = writer.generations().of("yolo")
    assert (now.generation, now.preparing, now.canary) == (0, None, None)


def test_a_promotion_that_is_interrupted_is_abandoned(writer: StoreWriter) -> None:
    def interrupt(_: Target) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(writer, "yolo", "v1", "a test", "operator", before_activation=interrupt)
    assert writer.generations().of("yolo").preparing is None
    *_, event = writer.history.read()
    assert (event.kind, event.reason) == ("abandoned", "KeyboardInterrupt")


def test_a_version_is_promoted_only_instead_of_the_given_one(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with pytest.raises(PromotionError, match="yolo:v3 does not serve any more"):
        promote(writer, "yolo", "v2", "a test", "monitor", instead_of="v3")
    promote(writer, "yolo", "v2", "a test", "monitor", instead_of="v1")
    serving = writer.generations().of("yolo").serving
    assert serving
    assert serving.version == "v2"


def test_only_the_version_that_is_prepared_can_be_a_canary(writer: StoreWriter) -> None:
    target = Target(version="v1", since=datetime.now(UTC), source="a test", by="poll")
    with pytest.raises(SupersededError, match="yolo:v1 is no longer wanted"):
        writer.start_canary("yolo", target, Canary(share=0.1))
    writer.prepare("yolo", target)
    writer.start_canary("yolo", target, Canary(share=0.1))
    watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
    assert watcher.aspired("yolo").canary == Canary(share=0.1)
    writer.activate("yolo", target, 1)
    watcher.refresh()
    assert watcher.aspired("yolo").canary is None


def test_models_do_not_wait_for_each_other(writer: StoreWriter) -> None:
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        stuck: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator", deadline=1)
        assert promote(writer, "kcbert", "v1", "a test", "operator") == 0
        assert not stuck.done()
        with pytest.raises(PromotionError):
            stuck.result()


def test_the_fallback_version_serves_until_a_version_is_promoted(writer: StoreWriter) -> None:
    watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
    assert watcher.aspired("yolo").serving.folder == MODELS / "yolo"
    promote(writer, "yolo", "v1", "a test", "operator")
    promote(writer, "yolo", "v2", "a test", "operator")
    assert watcher.refresh()
    assert not watcher.refresh()
    aspired = watcher.aspired("yolo")
    assert aspired.serving.folder == writer.layout.version("yolo", "v2")
    assert [other.version for other in aspired.instead] == ["v1", BUNDLED_VERSION]


def test_the_fallback_is_promoted_when_every_worker_has_its_own_bundled_version(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with worker(writer, "one", prepared), worker(writer, "two", loading), ThreadPoolExecutor() as pool:
        promotion = pool.submit(promote, writer, "yolo", FALLBACK, "bundled", "monitor")
        wait_until(is_preparing(writer, FALLBACK))
        assert not promotion.done()
        done = Heartbeat(
            worker="two", pid=1, parent=1, role="yolo", state="ready", fallback="fallback-9",
            loaded={"fallback-9": "available"}, preparing=_since(writer),
        )  # fmt: skip

        def done_reported() -> bool:  # again and again: the worker itself reports that it is still loading
            writer.heartbeats.write(done)
            return promotion.done()

        wait_until(done_reported)
        assert promotion.result(10) == 2
    now = writer.generations().of("yolo")
    assert now.serving
    assert (now.generation, now.serving.version, now.previous) == (2, FALLBACK, None)


def _since(writer: StoreWriter) -> datetime | None:
    target = writer.generations().of("yolo").preparing
    return target.since if target else None


def test_a_fallback_that_a_worker_cannot_load_does_not_serve(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with worker(writer, "one", failed), pytest.raises(CannotLoadError, match="one cannot load yolo:fallback: no space left"):
        promote(writer, "yolo", FALLBACK, "bundled", "monitor")
