from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.promotion import BadVersionError, PromotionError, promote
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from tests.conftest import MODELS


@pytest.fixture(autouse=True)
def published(writer: StoreWriter, make_version: Callable[..., Path]) -> None:
    for model in ("yolo", "kcbert"):
        for version in ("v1", "v2"):
            writer.publish(make_version(model, version), "a test", "operator")


Prepare = Callable[[str], dict[str, object]]


@contextmanager
def worker(writer: StoreWriter, name: str, prepare: Prepare) -> Iterator[None]:
    """A worker of yolo that follows the store; `prepare` says what its heartbeat tells of a version."""
    over = threading.Event()

    def beat() -> None:
        generation_watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
        while not over.wait(0.01):
            generation_watcher.refresh()
            aspired = generation_watcher.aspired("yolo")
            told = prepare(aspired.preparing.version) if aspired.preparing else {}
            writer.heartbeats.write(
                Heartbeat(worker=name, pid=1, parent=1, role="yolo", state="ready", preparing=aspired.preparing_since, **told)
            )

    thread = threading.Thread(target=beat)
    thread.start()
    while not any(one.worker == name for one in writer.heartbeats.alive()):
        over.wait(0.01)
    yield
    over.set()
    thread.join()


def prepared(version: str) -> dict[str, object]:
    return {"loaded": {version: "available"}}


def loading(version: str) -> dict[str, object]:
    return {"loaded": {version: "loading"}}


def failed(version: str) -> dict[str, object]:
    return {"errors": {version: "no space left"}}


def test_with_no_worker_it_serves_from_their_start(writer: StoreWriter) -> None:
    assert promote(writer, "yolo", "v1", "a test", "operator") == 0
    now = writer.generations().of("yolo")
    assert now.serving
    assert (now.generation, now.serving.version, now.preparing) == (1, "v1", None)


def test_what_serves_already_is_left_alone(writer: StoreWriter) -> None:
    for version in ("v1", "v2", "v2"):
        promote(writer, "yolo", version, "a test", "operator")
    now = writer.generations().of("yolo")
    assert now.previous
    assert (now.generation, now.previous.version) == (2, "v1")


def test_asking_for_what_serves_gives_up_what_was_to_take_its_place(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        newer: Future[int] = pool.submit(promote, writer, "yolo", "v2", "a test", "poll")
        with pytest.raises(TimeoutError):
            newer.result(0.3)
        promote(writer, "yolo", "v1", "a test", "operator")
        with pytest.raises(PromotionError, match="yolo:v2 is no longer wanted"):
            newer.result(5)
    now = writer.generations().of("yolo")
    assert now.serving
    assert (now.serving.version, now.generation, now.preparing) == ("v1", 1, None)


def test_what_is_not_in_the_store_does_not_go_live(writer: StoreWriter) -> None:
    with pytest.raises(PromotionError, match="yolo:v9 is not in the store"):
        promote(writer, "yolo", "v9", "a test", "operator")


def test_it_waits_for_every_live_worker(writer: StoreWriter) -> None:
    done = threading.Event()
    steps: list[str] = []

    def slowly(version: str) -> dict[str, object]:
        return prepared(version) if done.is_set() else loading(version)

    with worker(writer, "one", prepared), worker(writer, "two", slowly), ThreadPoolExecutor() as pool:
        activate: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator", progress=steps.append)
        with pytest.raises(TimeoutError):
            activate.result(0.3)
        assert writer.generations().of("yolo").generation == 0
        done.set()
        assert activate.result(5) == 2
    assert steps == ["preparing", "prepared", "activated"]


def test_a_straggler_is_left_behind(writer: StoreWriter) -> None:
    with worker(writer, "one", prepared), worker(writer, "two", loading):
        assert promote(writer, "yolo", "v1", "a test", "operator", deadline=0.3) == 1


def test_nobody_waits_for_the_dead(writer: StoreWriter) -> None:
    with worker(writer, "one", prepared), ThreadPoolExecutor() as pool:
        with worker(writer, "two", loading):
            activate: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator")
            with pytest.raises(TimeoutError):
                activate.result(0.3)
        writer.heartbeats.forget("two")
        assert activate.result(5) == 1


@pytest.mark.parametrize(
    ("prepare", "reason"), [(failed, "one cannot load yolo:v1: no space left"), (loading, "none of 1 workers")]
)
def test_a_version_that_cannot_be_loaded_does_not_go_live(writer: StoreWriter, prepare: Prepare, reason: str) -> None:
    with worker(writer, "one", prepare), pytest.raises(PromotionError, match=reason):
        promote(writer, "yolo", "v1", "a test", "operator", deadline=0.5)
    now = writer.generations().of("yolo")
    assert (now.generation, now.preparing) == (0, None)
    *_, event = writer.history.read()
    assert event.kind == "abandoned"
    assert reason in (event.reason or "")


def test_what_a_worker_said_before_it_knew_does_not_count(writer: StoreWriter) -> None:
    said = Heartbeat(worker="one", pid=1, parent=1, role="yolo", state="ready", loaded={"v1": "available"})
    writer.heartbeats.write(said)
    with pytest.raises(PromotionError, match="none of 1 workers"):
        promote(writer, "yolo", "v1", "a test", "operator", deadline=0.2)


def test_a_newer_version_takes_its_place(writer: StoreWriter) -> None:
    def only_the_second(version: str) -> dict[str, object]:
        return prepared(version) if version == "v2" else loading(version)

    with worker(writer, "one", only_the_second), ThreadPoolExecutor() as pool:
        first: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator")
        with pytest.raises(TimeoutError):
            first.result(0.2)
        assert promote(writer, "yolo", "v2", "a test", "operator") == 1
        with pytest.raises(PromotionError, match="yolo:v1 is no longer wanted"):
            first.result(5)
    serving = writer.generations().of("yolo").serving
    assert serving
    assert serving.version == "v2"


def test_what_comes_before_the_flip_may_take_longer_than_the_deadline(writer: StoreWriter) -> None:
    seen: list[tuple[str, int]] = []

    def look(target: Target) -> None:
        time.sleep(0.5)
        seen.append((target.version, writer.generations().of("yolo").generation))

    with worker(writer, "one", prepared):
        assert promote(writer, "yolo", "v1", "a test", "operator", deadline=0.3, before_activation=look) == 1
    assert seen == [("v1", 0)]
    assert writer.generations().of("yolo").generation == 1


@pytest.mark.parametrize("error", [BadVersionError("too slow"), SupersededError("yolo:v1 is no longer wanted")])
def test_what_comes_before_the_flip_may_reject_it(writer: StoreWriter, error: Exception) -> None:
    def reject(target: Target) -> None:
        writer.start_canary("yolo", target, Canary(share=0.1))
        raise error

    with pytest.raises(PromotionError, match=str(error)) as raised:
        promote(writer, "yolo", "v1", "a test", "operator", before_activation=reject)
    assert isinstance(raised.value, BadVersionError) == isinstance(error, BadVersionError)
    now = writer.generations().of("yolo")
    assert (now.generation, now.preparing, now.canary) == (0, None, None)


def test_a_version_goes_live_instead_of_another_only(writer: StoreWriter) -> None:
    promote(writer, "yolo", "v1", "a test", "operator")
    with pytest.raises(PromotionError, match="yolo:v3 does not serve any more"):
        promote(writer, "yolo", "v2", "a test", "monitor", instead_of="v3")
    promote(writer, "yolo", "v2", "a test", "monitor", instead_of="v1")
    serving = writer.generations().of("yolo").serving
    assert serving
    assert serving.version == "v2"


def test_only_what_is_being_prepared_can_be_tried_on(writer: StoreWriter) -> None:
    target = Target(version="v1", since=datetime.now(UTC), source="a test", by="poll")
    with pytest.raises(SupersededError):
        writer.start_canary("yolo", target, Canary(share=0.1))
    writer.prepare("yolo", target)
    writer.start_canary("yolo", target, Canary(share=0.1))
    generation_watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
    assert generation_watcher.aspired("yolo").canary == Canary(share=0.1)
    writer.activate("yolo", target, 1)
    generation_watcher.refresh()
    assert generation_watcher.aspired("yolo").canary is None


def test_models_do_not_wait_for_each_other(writer: StoreWriter) -> None:
    with worker(writer, "one", loading), ThreadPoolExecutor() as pool:
        stuck: Future[int] = pool.submit(promote, writer, "yolo", "v1", "a test", "operator", deadline=1)
        assert promote(writer, "kcbert", "v1", "a test", "operator") == 0
        assert not stuck.done()
        with pytest.raises(PromotionError):
            stuck.result()


def test_the_fallback_serves_where_the_file_says_nothing(writer: StoreWriter, tmp_path: Path) -> None:
    generation_watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
    assert generation_watcher.aspired("yolo").serving.folder == MODELS / "yolo"
    promote(writer, "yolo", "v1", "a test", "operator")
    promote(writer, "yolo", "v2", "a test", "operator")
    assert generation_watcher.refresh()
    assert not generation_watcher.refresh()
    aspired = generation_watcher.aspired("yolo")
    assert aspired.serving.folder == writer.layout.version("yolo", "v2")
    assert [one.version for one in aspired.instead] == ["v1", "fallback-2"]
