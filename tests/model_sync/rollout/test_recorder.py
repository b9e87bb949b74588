from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from bunriwiki.model_store.writer import StoreWriter
from model_sync.rollout.collector import OUTCOMES, PHASES, RolloutCollector
from model_sync.rollout.recorder import RolloutRecorder
from model_sync.rollout.state import Cause, Image, Phase, Rollout, State
from model_sync.rollout.wishes import Wishes

AT = datetime(2026, 1, 1, tzinfo=UTC)


def rollout(number: int, phase: Phase = "done", cause: Cause | None = None, **versions: str) -> Rollout:
    return Rollout(
        number=number, new=Image(name=f"image:{number}", versions=versions), old=Image(name="image:0"), wanted=2, phase=phase,
        began=AT, ended=AT + timedelta(seconds=60), failed_at=AT + timedelta(seconds=50) if cause else None, cause=cause,
        reason="it is bad" if cause else None,
    )  # fmt: skip


def write(writer: StoreWriter, *results: Rollout, **fields: object) -> None:
    State(current=results[-1] if results else None, results=results).model_copy(update=fields).write(
        writer.layout.rollout_state
    )


def test_each_result_is_recorded_once_per_version(writer: StoreWriter) -> None:
    write(writer, rollout(1, yolo="v2", kcbert="v3"), rollout(2, "rolled_back", "answers", yolo="v4"))
    for _ in range(2):  # the second is the recorder of another sidecar
        recorder = RolloutRecorder(writer)
        recorder.record()
        recorder.record()
    found = [(event.kind, event.model, event.version, event.source, event.rollout) for event in writer.history.read()]
    assert found == [
        ("rolled_out", "yolo", "v2", "image:1", 1),
        ("rolled_out", "kcbert", "v3", "image:1", 1),
        ("rollout_failed", "yolo", "v4", "image:2", 2),
    ]
    *_, failed = writer.history.read()
    assert (failed.cause, failed.reason, failed.seconds) == ("answers", "it is bad", {"rollout": 60.0, "going_back": 10.0})
    write(writer, rollout(1, yolo="v2"), rollout(2, "rolled_back", "answers", yolo="v4"), rollout(3))
    recorder.record()
    *_, last = writer.history.read()
    assert (last.kind, last.model, last.rollout) == ("rolled_out", "all", 3)


def scrape(writer: StoreWriter) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RolloutCollector(writer.layout))
    return registry


def test_the_metrics_of_a_store_without_rollouts(writer: StoreWriter) -> None:
    registry = scrape(writer)
    for outcome in OUTCOMES:
        assert registry.get_sample_value("bunriwiki_rollouts_total", {"outcome": outcome}) == 0
    for phase in PHASES:
        assert registry.get_sample_value("bunriwiki_rollout_phase", {"phase": phase}) == 0
    assert registry.get_sample_value("bunriwiki_rollout_last_seen_timestamp_seconds") is None


def test_the_metrics_of_rollouts(writer: StoreWriter) -> None:
    results = rollout(1, yolo="v2", kcbert="v3"), rollout(2, "rolled_back", "answers", yolo="v4"), rollout(3, "rolling")
    write(writer, *results, at=7.0, replaced=1, problem="no space", waiting="3/1")
    RolloutRecorder(writer).record()
    Wishes(paused=True).write(writer.layout.rollout_wishes)
    value = scrape(writer).get_sample_value
    assert value("bunriwiki_rollouts_total", {"outcome": "done"}) == 1
    assert value("bunriwiki_rollouts_total", {"outcome": "answers"}) == 1
    assert value("bunriwiki_rollout_phase", {"phase": "rolling"}) == 1
    assert value("bunriwiki_rollout_replicas", {"of": "wanted"}) == 2
    assert value("bunriwiki_rollout_replicas", {"of": "new"}) == 1
    for name in ("paused", "waiting", "blocked"):
        assert value(f"bunriwiki_rollout_{name}") == 1
    assert value("bunriwiki_rollout_last_seen_timestamp_seconds") == 7


def test_a_damaged_state_costs_its_own_metrics_only(writer: StoreWriter) -> None:
    writer.layout.rollout_state.write_text("{", encoding="utf-8")
    assert list(scrape(writer).collect()) == []
