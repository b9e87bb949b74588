"""What executes a command: the API of a running sidecar, or this process. Nothing between them is faked."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.model_store.writer import StoreWriter, open_writer
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.versions import compiled
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.cli import remote as remote_module
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.main import main
from model_sync.cli.remote import Remote
from model_sync.cli.settings import is_here
from model_sync.cli.words import Words
from tests.model_sync.triggers.fakes import FakeSyncRequests

MakeVersion = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@contextmanager
def answering(app: Starlette, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(5)


def sidecar(writer: StoreWriter, syncs: FakeSyncRequests) -> Starlette:
    state = SyncState(since=datetime.now(UTC), models={"yolo": ModelSync(source="s3://bucket", phase="fetch", phase_share=0.5)})
    return make_app(
        syncs,
        lambda: state,
        admin_tokens=("one", "둘"),
        verifier=None,
        webhook_names=(),
        commands=Commands(writer, syncs),
        metrics=CollectorRegistry(),
    )


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    found = free_port()
    monkeypatch.setenv("BUNRIWIKI_SYNC_PORT", str(found))
    monkeypatch.setenv("BUNRIWIKI_ADMIN_TOKEN", "둘,two")
    return found


@pytest.fixture
def served(writer: StoreWriter, make_version: MakeVersion) -> StoreWriter:
    """A store in which v1 and v2 of yolo served."""
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        promote(writer, "yolo", version, "a test", "poll")
    return writer


def serving(layout: Layout) -> str | None:
    with open_writer(layout.root, "a test") as writer:
        found = writer.generations().of("yolo").serving
    return found.version if found else None


def run(line: str, capsys: Capture) -> tuple[int, Any]:
    code = main([*line.split(), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_running_sidecar_executes_every_command(served: StoreWriter, port: int, capsys: Capture) -> None:
    syncs = FakeSyncRequests("rejected")
    with answering(sidecar(served, syncs), port):
        assert run("status", capsys)[1]["models"][0]["serving"]["version"] == "v2"
        assert len(run("history yolo --last 2", capsys)[1]["events"]) == 2
        code, done = run("rollback yolo", capsys)
        assert (code, done["from"], done["to"]) == (Exit.DONE, "v2", "v1")
        assert run("pin yolo", capsys)[1]["version"] == "v1"
        assert run("unpin yolo", capsys)[1]["released"] == ["v2"]
        assert run("quarantine add yolo v2 --reason slow", capsys)[1]["reason"] == "slow"
        assert [entry["version"] for entry in run("quarantine list", capsys)[1]["quarantined"]] == ["v2"]
        assert run("rollback yolo --to v2", capsys)[0] == Exit.REJECTED
        assert run("rollback yolo --to v9", capsys)[0] == Exit.REJECTED
        assert run("rollback yolo --to ../v1", capsys)[0] == Exit.USAGE
        assert run("quarantine release yolo v2", capsys)[0] == Exit.DONE
        assert run("quarantine release yolo v2", capsys)[0] == Exit.REJECTED
        assert run("quarantine release yolo ../../gc", capsys)[0] == Exit.USAGE
        assert run("gc", capsys) == (Exit.DONE, {"removed": []})
        assert run("sync yolo --no-wait", capsys) == (Exit.DONE, {"outcomes": None})
        code, done = run("sync yolo kcbert --force", capsys)
        assert (code, done["outcomes"]["kcbert"]["status"]) == (Exit.DONE, "unchanged")
    assert syncs.calls == [("operator", ["yolo"], False), ("operator", ["yolo"], False), ("operator", ["yolo", "kcbert"], True)]


def test_a_long_sync_is_waited_for(served: StoreWriter, port: int, capsys: Capture) -> None:
    syncs = FakeSyncRequests("promoted", hold=True)

    def end() -> None:
        while not syncs.pending:
            time.sleep(0.01)
        time.sleep(0.5)
        syncs.pending[0].end()

    ending = threading.Thread(target=end)
    ending.start()
    with answering(sidecar(served, syncs), port):
        assert run("sync", capsys)[1]["outcomes"]["yolo"]["status"] == "promoted"
    ending.join()


@pytest.mark.usefixtures("short_token_delay")
def test_a_wrong_token_is_a_wrong_setting(
    served: StoreWriter, port: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("two", ""):
        monkeypatch.setenv("BUNRIWIKI_ADMIN_TOKEN", token)
        with answering(sidecar(served, FakeSyncRequests()), port):
            code, result = run("rollback yolo", capsys)
        assert (code, "Authorization: Bearer" in result["error"]["message"]) == (Exit.USAGE, True)


def test_a_store_whose_holder_does_not_answer_is_not_changed(served: StoreWriter, capsys: Capture) -> None:
    code, result = run("rollback yolo", capsys)
    assert code == Exit.UNREACHABLE
    assert "is being written to by a test (process" in result["error"]["message"]
    assert "does not answer at http://127.0.0.1:" in result["error"]["message"]


@pytest.fixture
def unlocked(make_version: MakeVersion, tmp_path: Path) -> Layout:
    """A store without a running sidecar, in which v1 and v2 of yolo served."""
    with open_writer(tmp_path / "store", "a sidecar") as writer:
        for version in ("v1", "v2"):
            writer.publish(make_version("yolo", version), "a test", "poll")
            promote(writer, "yolo", version, "a test", "poll")
        return writer.layout


def test_an_unlocked_store_is_changed_by_this_process(unlocked: Layout, capsys: Capture) -> None:
    code, done = run("rollback yolo", capsys)
    assert (code, done["to"], serving(unlocked)) == (Exit.DONE, "v1", "v1")
    assert run("rollback yolo", capsys)[1]["to"] == serving(unlocked) == "fallback"
    assert run("rollback yolo", capsys)[0] == Exit.REJECTED
    assert [run(f"{command} yolo", capsys)[0] for command in ("pause", "resume", "promote", "abort", "cancel")] == [
        Exit.REJECTED
    ] * 5
    assert run("quarantine release yolo v1", capsys)[0] == Exit.REJECTED


def test_reading_takes_no_lock(served: StoreWriter, capsys: Capture) -> None:
    assert run("status", capsys)[1]["models"][0]["serving"]["version"] == "v2"
    assert len(run("history", capsys)[1]["events"]) == 4
    assert run("quarantine list", capsys) == (Exit.DONE, {"quarantined": []})


def test_without_a_port_the_store_is_used(unlocked: Layout, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SYNC_PORT", "0")
    assert run("pin yolo", capsys)[1]["version"] == "v2"


def test_a_missing_store_is_not_created(capsys: Capture, tmp_path: Path) -> None:
    code, result = run("rollback yolo", capsys)
    assert (code, "There is no store at" in result["error"]["message"]) == (Exit.USAGE, True)
    assert not (tmp_path / "store").exists()


def test_a_store_whose_generation_file_is_missing_is_not_changed(unlocked: Layout, capsys: Capture) -> None:
    unlocked.generation.unlink()
    code, result = run("gc", capsys)
    assert (code, "Restore it" in result["error"]["message"]) == (Exit.FAILED, True)


def test_this_process_does_not_replace_an_unreachable_remote_sidecar(
    unlocked: Layout, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "http://sidecar.invalid:3002")
    for line in ("rollback yolo", "status"):
        code, result = run(line, capsys)
        assert (code, "sidecar.invalid" in result["error"]["message"]) == (Exit.UNREACHABLE, True)
    assert serving(unlocked) == "v2"


def test_another_program_at_the_port_is_reported(unlocked: Layout, port: int, capsys: Capture) -> None:
    other = Starlette(routes=[Route("/state", lambda _: PlainTextResponse("hello"))])
    with answering(other, port):
        code, result = run("rollback yolo", capsys)
    assert (code, "is not a sidecar" in result["error"]["message"]) == (Exit.UNREACHABLE, True)


def test_a_sidecar_that_hangs_is_reported_with_the_holder_of_the_lock(
    served: StoreWriter, port: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", port)):  # accepts connections without answering
        code, result = run("rollback yolo", capsys)
    assert (code, "written to by a test" in result["error"]["message"]) == (Exit.UNREACHABLE, True)


@pytest.mark.slow
def test_without_a_sidecar_this_process_syncs(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled("kcbert", tmp_path / "registry" / "v1")
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"kcbert=local:{tmp_path / 'registry'}")
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    monkeypatch.setenv("BUNRIWIKI_GATE_LATENCY_RATIO", "100")  # the same model: only a busy machine could make it slower
    code, done = run("sync kcbert", capsys)
    assert (code, done["outcomes"]["kcbert"]["version"]) == (Exit.DONE, "v1")
    layout = Layout(tmp_path / "store")
    assert layout.versions("kcbert") == ["v1"]
    assert not layout.sync.exists()  # this process must not look like a sidecar
    assert run("sync yolo", capsys)[0] == Exit.USAGE


def test_unexpected_answers_are_reported() -> None:
    answers = iter([httpx.Response(502, text="<html>"), httpx.Response(200, json={"models": 1}), httpx.Response(504, json={})])
    remote = Remote("http://127.0.0.1:1", "", Words("en"), httpx.MockTransport(lambda _: next(answers)))
    for message, code in (("status 502", 1), ("have different versions", 1), ("status 504", 1)):
        with pytest.raises(CliError, match=message) as caught:
            remote.status()
        assert caught.value.code == code


def test_a_lost_connection_is_reported() -> None:
    def lose(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset by peer")

    remote = Remote("http://127.0.0.1:1", "", Words("en"), httpx.MockTransport(lose))
    with pytest.raises(CliError, match="reset by peer") as caught:
        remote.rollback("yolo")
    assert caught.value.code == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3002", True), ("http://localhost", True), ("http://[::1]:3002", True), ("https://10.0.0.1", False),
        ("http://sidecar:3002", False), ("http://127.0.0.1.example.org", False),
    ],
)  # fmt: skip
def test_urls_of_this_machine(url: str, expected: bool) -> None:
    assert is_here(url) is expected
