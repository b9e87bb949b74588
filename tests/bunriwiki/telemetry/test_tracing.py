from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from bunriwiki.ipc.trace import current_trace
from bunriwiki.telemetry import spans
from bunriwiki.telemetry.tracing import DISABLED, ENDPOINTS, open_tracing
from bunriwiki.testing.otlp_receiver import OtlpReceiver

LOADS_NOTHING = """
import sys
from bunriwiki.protocols.grpc import server
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.telemetry.tracing import open_tracing
before = set(sys.modules)
assert open_tracing("gateway") is None
assert set(sys.modules) == before
assert "bunriwiki.telemetry.spans" not in sys.modules
assert not any(name.startswith("opentelemetry.exporter.otlp.json") for name in sys.modules)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def test_without_an_endpoint_nothing_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", LOADS_NOTHING], check=True, timeout=60)


def test_an_exporter_none_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert open_tracing("gateway") is None


@pytest.mark.parametrize("variable", ENDPOINTS)
def test_spans_reach_the_endpoint(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED, "true")  # as service.py sets it
    with OtlpReceiver() as receiver:
        monkeypatch.setenv(variable, receiver.endpoint + ("/v1/traces" if "TRACES" in variable else ""))
        tracing = open_tracing("gateway")
        assert tracing is not None
        assert os.environ[DISABLED] == "true"
        token = current_trace.set(None)
        begun = tracing.begin_request({}, lambda: ("POST /predict", {"http.route": "/predict"}))
        assert begun is not None
        begun.end()
        current_trace.reset(token)
        tracing.close()
    [span] = receiver.spans
    assert (span.name, span.attributes, span.parent) == ("POST /predict", {"http.route": "/predict"}, "")
    assert span.resource["service.name"] == "bunriwiki"
    assert str(os.getpid()) in span.resource["service.instance.id"]


def test_the_name_of_the_service_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "waste")
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        tracing = open_tracing("sidecar")
        assert tracing is not None
        tracing.start("import yolo", {})[0].end()
        tracing.close()
    assert receiver.spans[0].resource["service.name"] == "waste"


def test_a_collector_that_does_not_answer_delays_nothing_but_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        tracing = open_tracing("gateway")
        assert tracing is not None
        tracing.start("import yolo", {})[0].end()
        tracing.close()
        [sending] = [thread for thread in threading.enumerate() if thread.name == "last spans"]
        sending.join()  # it would try again beside other tests
