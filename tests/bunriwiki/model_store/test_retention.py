from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.model_store.generation import ModelGeneration, Target
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.retention import removable

VERSIONS = [f"v{number}" for number in range(8)]


def target(version: str | None) -> Target | None:
    return Target(version=version, since=datetime.now(UTC), source="a test", by="poll") if version else None


def worker(role: str, *loaded: str) -> Heartbeat:
    states = dict.fromkeys(loaded, "loading")
    return Heartbeat(worker="w", pid=1, parent=1, role=role, state="ready", loaded=states)


def test_the_oldest_versions_are_removable() -> None:
    assert removable(VERSIONS, ModelGeneration(), [], "yolo", keep=3) == VERSIONS[:5]
    assert removable(VERSIONS[:3], ModelGeneration(), [], "yolo", keep=3) == []


def test_held_versions_are_kept() -> None:
    assert removable(VERSIONS, ModelGeneration(held=("v1",)), [], "yolo", keep=3) == ["v0", "v2", "v3", "v4"]


def test_workers_of_other_models_are_ignored() -> None:
    assert removable(VERSIONS, ModelGeneration(), [worker("kcbert", "v0")], "yolo") == VERSIONS[:5]


@given(
    st.none() | st.sampled_from(VERSIONS),
    st.none() | st.sampled_from(VERSIONS),
    st.none() | st.sampled_from(VERSIONS),
    st.sets(st.sampled_from(VERSIONS)),
    st.integers(0, 9),
)
def test_needed_versions_are_kept(
    serving: str | None, previous: str | None, preparing: str | None, loaded: set[str], keep: int
) -> None:
    generation = ModelGeneration(
        generation=1 if serving else 0, serving=target(serving), previous=target(previous), preparing=target(preparing)
    )
    gone = set(removable(VERSIONS, generation, [worker("yolo", *loaded)], "yolo", keep))
    assert not gone & ({serving, previous, preparing} | loaded)
    assert not gone & set(VERSIONS[len(VERSIONS) - keep :] if keep else [])
    assert gone | {serving, previous, preparing} | loaded | set(VERSIONS[-keep:] if keep else []) >= set(VERSIONS)
