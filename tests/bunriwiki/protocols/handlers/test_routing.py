from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.generation import Canary, Generations, Target
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.handlers import routing
from bunriwiki.protocols.handlers.routing import Route
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION

pytestmark = pytest.mark.anyio


class Store:
    """A store, a route by its generation file, and a clock."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        generation_watcher = GenerationWatcher(self.layout, {"yolo": MODELS / "yolo"})
        chances = itertools.cycle(number / 100 for number in range(100))
        self.route = Route("yolo", generation_watcher, lambda: next(chances))
        self.now = 100.0

    def activate(self, version: str) -> None:
        target = Target(version=version, since=datetime.now(UTC), source="a test", by="operator")
        Generations.read(self.layout.generation).activate("yolo", target).write(self.layout.generation)

    def start_canary(self, canary: Canary | None) -> None:
        """Prepare v2, and make it a canary."""
        target = Target(version="v2", since=datetime.now(UTC), source="a test", by="operator")
        now = Generations.read(self.layout.generation).prepare("yolo", target)
        now.start_canary("yolo", canary).write(self.layout.generation)
        self.route._generation_watcher.refresh()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(tmp_path)
    monkeypatch.setattr(routing, "time", store)
    return store


async def test_a_gateway_that_lags_behind_reads_the_file_again(store: Store) -> None:
    assert store.route.version() == BUNDLED_VERSION
    store.activate("v1")
    assert await store.route.instead("v1") == "v1"
    assert store.route.version() == "v1"


async def test_a_batch_waits_for_its_version_and_then_accepts_another(store: Store) -> None:
    store.activate("v1")
    for _ in range(3):
        assert await store.route.instead(BUNDLED_VERSION) == "v1"
        store.now += routing.PATIENCE_SECONDS / 3
    assert await store.route.instead(BUNDLED_VERSION) == BUNDLED_VERSION
    store.route.answered(BUNDLED_VERSION)
    # The next batch tries the serving version again, without waiting for it again.
    assert store.route.version() == "v1"
    assert await store.route.instead(BUNDLED_VERSION) == BUNDLED_VERSION
    store.route.answered("v1")
    assert await store.route.instead(BUNDLED_VERSION) == "v1"


async def test_a_batch_waits_for_a_runner_that_offers_no_version(store: Store) -> None:
    store.activate("v1")
    await store.route.instead("")
    store.now += 10 * routing.PATIENCE_SECONDS
    assert await store.route.instead("") == "v1"


async def test_a_canary_gets_its_share_of_the_batches(store: Store) -> None:
    store.activate("v1")
    store.start_canary(Canary(share=0.25))
    drawn = [store.route.draw() for _ in range(100)]
    assert drawn.count("v2") == 25
    assert set(drawn) == {"v1", "v2"}
    assert store.route.shadow() is None
    assert store.route.version() == "v1"


async def test_a_shadow_gets_its_share_of_copies_and_no_batch(store: Store) -> None:
    store.activate("v1")
    store.start_canary(Canary(share=0.25, shadow=True))
    assert [store.route.shadow() for _ in range(100)].count("v2") == 25
    assert {store.route.draw() for _ in range(100)} == {"v1"}


async def test_a_version_that_is_only_prepared_gets_no_batches(store: Store) -> None:
    store.activate("v1")
    store.start_canary(None)
    assert {store.route.draw() for _ in range(100)} == {"v1"}
    assert {store.route.shadow() for _ in range(100)} == {None}


async def test_no_batch_waits_for_a_canary(store: Store) -> None:
    store.activate("v1")
    store.start_canary(Canary(share=1))
    assert store.route.draw() == "v2"
    assert await store.route.instead("v1") == "v1"


async def test_each_version_has_its_own_patience(store: Store) -> None:
    store.activate("v1")
    await store.route.instead(BUNDLED_VERSION)
    store.now += 10 * routing.PATIENCE_SECONDS
    store.activate("v2")
    assert await store.route.instead(BUNDLED_VERSION) == "v2"
