from __future__ import annotations

from datetime import UTC, datetime

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.public import public_event, public_state, public_status
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import SidecarStatus, StoredModelStatus, StoreStatus, WorkerStatus
from bunriwiki.model_store.sync_state import ModelSync, SyncState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HIDDEN = "/home/secret"  # what nobody may see
PID = 987_654_321
SYNC = ModelSync(source=HIDDEN, status="failed", version="v3", reason=HIDDEN, findings=[HIDDEN], rollout=HIDDEN, phase="fetch")
WORKER = WorkerStatus(
    name=f"yolo-{PID}", host=HIDDEN, pid=PID, state="ready", generation=2, serving="v2", loaded={"v2": "warm"},
    errors={"v3": HIDDEN}, rss_bytes=5, heartbeat_age_seconds=1.5,
)  # fmt: skip
TARGET = Target(version="v2", since=NOW, source=HIDDEN, by="poll")
MODEL = StoredModelStatus(
    name="yolo", generation=2, serving=TARGET, previous=TARGET, preparing=TARGET, canary=None, paused=None, pinned=False,
    held=(), cancelled=None, workers=(WORKER, WORKER), sync=SYNC, versions=(),
    quarantined=(Quarantined(model="yolo", version="v1", digest="a", signature=HIDDEN, reason=HIDDEN, at=NOW),),
)  # fmt: skip
SIDECAR = SidecarStatus(alive=True, host=HIDDEN, pid=PID, since=NOW, problems=(HIDDEN,))


def test_the_status_for_everybody_names_no_process_host_or_file() -> None:
    status = StoreStatus(sidecar=SIDECAR, models=(MODEL,))
    shown = public_status(status)
    text = shown.model_dump_json()
    assert HIDDEN not in text
    assert str(PID) not in text
    [model] = shown.models
    assert model.serving
    assert (model.serving.version, model.serving.by) == ("v2", "poll")
    assert [(worker.name, worker.serving) for worker in model.workers] == [("1", "v2"), ("2", "v2")]
    assert model.sync
    assert (model.sync.status, model.sync.version) == ("failed", "v3")
    assert [entry.version for entry in model.quarantined] == ["v1"]
    assert StoreStatus.model_validate_json(text) == shown
    assert public_status(StoreStatus(sidecar=None, models=())) == StoreStatus(sidecar=None, models=())


def test_the_state_of_the_sidecar_for_everybody_names_no_process_host_or_file() -> None:
    shown = public_state(SyncState(host=HIDDEN, pid=PID, since=NOW, at=7.0, models={"yolo": SYNC}, problems=[HIDDEN]))
    text = shown.model_dump_json()
    assert HIDDEN not in text
    assert str(PID) not in text
    assert (shown.since, shown.at, shown.models["yolo"].phase) == (NOW, 7.0, "fetch")


def test_an_event_for_everybody_has_no_reason_no_address_and_no_token() -> None:
    event = Event(
        at=NOW, kind="quarantined", model="yolo", version="v3", generation=4, previous="v2", source=HIDDEN, by="poll",
        workers=2, seconds={"fetch": 1.5}, forced=True, reason=HIDDEN, cause="latency", rollout=5, token=HIDDEN,
    )  # fmt: skip
    hidden = {"source": None, "reason": None, "token": None}
    assert public_event(event).model_dump() == {**event.model_dump(), **hidden}
