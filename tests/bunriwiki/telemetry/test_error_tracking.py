"""What a local server that takes Sentry's envelopes receives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

import pytest
import sentry_sdk
from loguru import logger

from bunriwiki.ipc.trace import TraceContext, current_trace
from bunriwiki.settings import CommonSettings, read
from bunriwiki.telemetry import error_tracking
from bunriwiki.testing.waiting import wait_until

TEXT = "제 전화번호는 010-1234-5678입니다"
TOKEN = "a-very-secret-admin-token"  # noqa: S105


class Ingest(ThreadingHTTPServer):
    """Keeps the envelopes that are posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.envelopes: list[bytes] = []

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_address[1]}/7"

    def events(self, number: int) -> list[dict[str, Any]]:
        """So many events, once they have arrived."""
        sentry_sdk.flush(10)
        wait_until(lambda: len(self.envelopes) >= number)
        assert len(self.envelopes) == number
        return [json.loads(envelope.split(b"\n")[2]) for envelope in self.envelopes]


class Handler(BaseHTTPRequestHandler):
    server: Ingest

    def do_POST(self) -> None:
        assert self.path == "/api/7/envelope/"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        decompress = import_module({"gzip": "gzip", "br": "brotli"}[self.headers["Content-Encoding"]]).decompress
        self.server.envelopes.append(decompress(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with Ingest() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        logger.remove()
        error_tracking.start(server.dsn, "gateway")
        yield server
        logger.remove()
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        server.shutdown()


def fail(text: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        raise KeyError(headers["Authorization"])
    except KeyError as error:
        raise ValueError(f"cannot read {text!r}") from error


def test_an_event_says_where_and_neither_what_nor_who(ingest: Ingest) -> None:
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)
    token = current_trace.set(trace)
    try:
        fail(TEXT, TOKEN)
    except ValueError:
        logger.exception("{} failed | token {}", TEXT, TOKEN)
    current_trace.reset(token)
    [event] = ingest.events(1)
    assert [each["type"] for each in event["exception"]["values"]] == ["KeyError", "ValueError"]
    frame = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert frame.keys() <= {"filename", "function", "module", "lineno", "in_app"}
    assert frame["function"] == "fail"
    assert event["transaction"].startswith("tests.bunriwiki.telemetry.test_error_tracking:test_an_event_says")
    assert event["contexts"] == {"trace": {"trace_id": trace.trace_id, "span_id": trace.span_id}}
    assert event["tags"] == {"role": "gateway"}
    for secret in ("010-1234", "전화", json.dumps("전화")[1:-1], TOKEN, "Bearer", "raise ValueError"):
        assert secret.encode() not in ingest.envelopes[0]


def test_an_error_without_an_exception_is_an_event_of_its_place(ingest: Ingest) -> None:
    logger.error("the runner did not answer: {}", TEXT)
    [event] = ingest.events(1)
    [found] = event["exception"]["values"]
    assert found["type"].endswith(
        f":test_an_error_without_an_exception_is_an_event_of_its_place:{found['type'].split(':')[-1]}"
    )
    assert "전화".encode() not in ingest.envelopes[0]
    assert b"did not answer" not in ingest.envelopes[0]


def test_warnings_are_no_events(ingest: Ingest) -> None:
    logger.warning("a warning")
    logger.critical("an error")
    assert len(ingest.events(1)) == 1


def test_parts_that_nobody_knows_yet_are_left_out() -> None:
    event: Any = {
        "event_id": "1", "request": {"data": TEXT}, "breadcrumbs": {"values": [TEXT]}, "user": {"ip_address": "192.0.2.7"},
        "extra": {"sys.argv": [TOKEN]}, "message": TEXT, "logentry": {"message": TEXT}, "modules": {"a": "1"}, "novel": TEXT,
    }  # fmt: skip
    assert error_tracking.scrubbed(event, {}) == {"event_id": "1", "exception": {"values": []}, "contexts": {}}


def test_without_a_dsn_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentry_sdk", None)  # an import would fail
    error_tracking.start("", "gateway")


@pytest.mark.parametrize("dsn", ["https://host/1", "secretkey", "https://key@host", "ftp://key@host/1"])
def test_a_wrong_dsn_is_not_shown(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_DSN", dsn)
    with pytest.raises(SystemExit) as error:
        read(CommonSettings)
    assert str(error.value) == "Wrong setting. SENTRY_DSN: a DSN has the form https://KEY@HOST/PROJECT"
