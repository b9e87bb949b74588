"""Who carries out a command: a running sidecar's API, or this process, with nothing faked in between."""

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
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.load import free_port
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.model_store.writer import StoreWriter, open_writer
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.cli import remote as remote_module
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.main import main
from model_sync.cli.remote import Remote
from model_sync.cli.settings import is_here
from model_sync.cli.words import Words
from tests.conftest import ROOT
from tests.model_sync.triggers.fakes import FakeSyncRequests
from tests.published import compiled

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
        syncs, lambda: state, admin_tokens=("one", "둘"), verifier=None, webhook_names=(), commands=Commands(writer, syncs)
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


def test_the_running_sidecar_carries_out_every_command(served: StoreWriter, port: int, capsys: Capture) -> None:
    syncs = FakeSyncRequests("rejected")
    with answering(sidecar(served, syncs), port):
        assert run("status", capsys)[1]["models"][0]["serving"]["version"] == "v2"
        assert len(run("history yolo --last 2", capsys)[1]["events"]) == 2
        code, done = run("rollback yolo", capsys)
        assert (code, done["from"], done["to"]) == (Exit.DONE, "v2", "v1")
        assert run("pin yolo", capsys)[1]["version"] == "v1"
        assert run("unpin yolo", capsys)[1]["released"] == ["v2"]
        assert run("quarantine add yolo v2 --reason slow", capsys)[1]["reason"] == "slow"
        assert [one["version"] for one in run("quarantine list", capsys)[1]["quarantined"]] == ["v2"]
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


def test_a_look_that_takes_long_is_waited_for(served: StoreWriter, port: int, capsys: Capture) -> None:
    syncs = FakeSyncRequests("promoted", hold=True)

    def end() -> None:
        while not syncs.asked:
            time.sleep(0.01)
        time.sleep(0.5)
        syncs.asked[0].end()

    ending = threading.Thread(target=end)
    ending.start()
    with answering(sidecar(served, syncs), port):
        assert run("sync", capsys)[1]["outcomes"]["yolo"]["status"] == "promoted"
    ending.join()


def test_a_wrong_token_is_a_wrong_setting(
    served: StoreWriter, port: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("two", ""):
        monkeypatch.setenv("BUNRIWIKI_ADMIN_TOKEN", token)
        with answering(sidecar(served, FakeSyncRequests()), port):
            code, told = run("rollback yolo", capsys)
        assert (code, "Authorization: Bearer" in told["error"]["says"]) == (Exit.USAGE, True)


def test_a_store_whose_holder_does_not_answer_is_left_alone(served: StoreWriter, capsys: Capture) -> None:
    code, told = run("rollback yolo", capsys)
    assert code == Exit.UNREACHABLE
    assert "is being written to by a test (process" in told["error"]["says"]
    assert "does not answer at http://127.0.0.1:" in told["error"]["says"]


@pytest.fixture
def left(make_version: MakeVersion, tmp_path: Path) -> Layout:
    """A store that a sidecar left, in which v1 and v2 of yolo served."""
    with open_writer(tmp_path / "store", "a sidecar") as writer:
        for version in ("v1", "v2"):
            writer.publish(make_version("yolo", version), "a test", "poll")
            promote(writer, "yolo", version, "a test", "poll")
        return writer.layout


def test_a_store_that_nobody_holds_is_changed_here(left: Layout, capsys: Capture) -> None:
    code, done = run("rollback yolo", capsys)
    assert (code, done["to"], serving(left)) == (Exit.DONE, "v1", "v1")
    assert run("rollback yolo", capsys)[0] == Exit.REJECTED
    assert run("quarantine release yolo v1", capsys)[0] == Exit.REJECTED


def test_reading_takes_no_lock(served: StoreWriter, capsys: Capture) -> None:
    assert run("status", capsys)[1]["models"][0]["serving"]["version"] == "v2"
    assert len(run("history", capsys)[1]["events"]) == 4
    assert run("quarantine list", capsys) == (Exit.DONE, {"quarantined": []})


def test_without_a_port_the_store_is_all_there_is(left: Layout, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNRIWIKI_SYNC_PORT", "0")
    assert run("pin yolo", capsys)[1]["version"] == "v2"


def test_a_store_that_is_not_there_is_not_made(capsys: Capture, tmp_path: Path) -> None:
    code, told = run("rollback yolo", capsys)
    assert (code, "There is no store at" in told["error"]["says"]) == (Exit.USAGE, True)
    assert not (tmp_path / "store").exists()


def test_a_store_whose_generation_file_is_lost_is_left_alone(left: Layout, capsys: Capture) -> None:
    left.generation.unlink()
    code, told = run("gc", capsys)
    assert (code, "Restore it" in told["error"]["says"]) == (Exit.FAILED, True)


def test_a_sidecar_elsewhere_that_cannot_be_reached_is_no_reason_to_act_here(
    left: Layout, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "CONNECT", 0.2)
    monkeypatch.setenv("BUNRIWIKI_SYNC_URL", "http://sidecar.invalid:3002")
    for line in ("rollback yolo", "status"):
        code, told = run(line, capsys)
        assert (code, "sidecar.invalid" in told["error"]["says"]) == (Exit.UNREACHABLE, True)
    assert serving(left) == "v2"


def test_something_else_at_the_port_is_told(left: Layout, port: int, capsys: Capture) -> None:
    other = Starlette(routes=[Route("/state", lambda _: PlainTextResponse("hello"))])
    with answering(other, port):
        code, told = run("rollback yolo", capsys)
    assert (code, "Something else than a sidecar" in told["error"]["says"]) == (Exit.UNREACHABLE, True)


def test_a_sidecar_that_hangs_is_told_with_who_holds_the_store(
    served: StoreWriter, port: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", port)):  # it accepts, and says nothing
        code, told = run("rollback yolo", capsys)
    assert (code, "written to by a test" in told["error"]["says"]) == (Exit.UNREACHABLE, True)


def test_a_look_without_a_sidecar_is_made_here(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled("kcbert", tmp_path / "registry" / "v1")
    monkeypatch.setenv("BUNRIWIKI_SOURCES", f"kcbert=local:{tmp_path / 'registry'}")
    monkeypatch.setenv("BUNRIWIKI_SERVE_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    monkeypatch.setenv("BUNRIWIKI_GATE_LATENCY_RATIO", "100")  # it is the shipped model: a busy machine alone could reject it
    code, done = run("sync kcbert", capsys)
    assert (code, done["outcomes"]["kcbert"]["version"]) == (Exit.DONE, "v1")
    layout = Layout(tmp_path / "store")
    assert layout.versions("kcbert") == ["v1"]
    assert not layout.sync.exists()  # nobody takes this for a sidecar
    assert run("sync yolo", capsys)[0] == Exit.USAGE


def test_what_a_server_says_badly_is_told() -> None:
    answers = iter([httpx.Response(502, text="<html>"), httpx.Response(200, json={"models": 1}), httpx.Response(504, json={})])
    remote = Remote("http://127.0.0.1:1", "", Words("en"), httpx.MockTransport(lambda _: next(answers)))
    for words, code in (("answers 502", 1), ("of another version", 1), ("answers 504", 1)):
        with pytest.raises(CliError, match=words) as caught:
            remote.status()
        assert caught.value.code == code


def test_a_connection_that_is_lost_is_told() -> None:
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
def test_what_is_here(url: str, expected: bool) -> None:
    assert is_here(url) is expected
