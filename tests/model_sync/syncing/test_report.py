from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from bunriwiki.model_store.sync_state import SyncState
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "sync.json", {"yolo": "s3://bucket"})


def written(tmp_path: Path) -> SyncState:
    state = SyncState.read(tmp_path / "sync.json")
    assert state is not None
    return state


def test_every_change_is_written_to_the_file(report: Report, tmp_path: Path) -> None:
    report.begin("yolo")
    with report.phase("yolo", "fetch"):
        assert written(tmp_path).models["yolo"].phase == "fetch"
        report.share("yolo", 0.5)
        assert written(tmp_path).models["yolo"].phase_share == 0.5
    report.found("yolo", "labels: the same 6 classes")
    report.ended(Outcome("yolo", "rejected", version="v2", reason="it is slow"))
    model = written(tmp_path).models["yolo"]
    assert (model.status, model.version, model.reason, model.phase) == ("rejected", "v2", "it is slow", None)
    assert model.findings == ["labels: the same 6 classes"]
    assert set(model.seconds) == {"fetch"}
    assert written(tmp_path).has_synced


def test_a_new_import_starts_with_an_empty_report(report: Report) -> None:
    report.took("yolo", "fetch", 1)
    report.found("yolo", "something")
    report.begin("yolo")
    assert (report.seconds("yolo"), report.state().models["yolo"].findings) == ({}, [])


def test_a_failed_phase_is_no_longer_the_current_phase(report: Report) -> None:
    with pytest.raises(RuntimeError), report.phase("yolo", "fetch"):
        raise RuntimeError
    assert report.state().models["yolo"].phase is None


def test_problems_are_read_for_every_snapshot(report: Report) -> None:
    problems: list[str | None] = ["denied", None]
    report.add_problem_source("SQS", lambda: problems.pop(0))
    assert report.state().problems == ["SQS: denied"]
    assert report.state().problems == []


def test_a_write_error_is_not_raised(tmp_path: Path) -> None:
    report = Report(tmp_path / "nowhere" / "sync.json", {"yolo": "here"})
    report.ended(Outcome("yolo", "unchanged"))
    assert report.state().models["yolo"].status == "unchanged"


def test_keep_writing_writes_until_it_is_stopped(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_sync.syncing.report.EVERY", 0.01)
    stopping = threading.Event()
    thread = threading.Thread(target=report.keep_writing, args=(stopping,))
    thread.start()
    while not (tmp_path / "sync.json").exists() or not written(tmp_path).is_alive:
        stopping.wait(0.01)
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()


def test_the_metrics_may_call_a_registry_by_another_name(tmp_path: Path) -> None:
    report = Report(tmp_path / "sync.json", {"yolo": "/srv/versions"}, labels={"yolo": "local"})
    report.registry_read("yolo", succeeded=True)
    text = generate_latest(report.metrics.registry).decode()
    assert 'registry="local"' in text
    assert "/srv/versions" not in text
