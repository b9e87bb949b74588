"""Traces and logs of the real service and the real sidecar: what an OTLP receiver and the log folder get."""

from __future__ import annotations

import concurrent.futures
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.telemetry.logs import LOG_FILE
from bunriwiki.testing.calls import text_call
from bunriwiki.testing.otlp_receiver import OtlpReceiver, Received
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.versions import BUNDLED_VERSION, compiled
from bunriwiki.testing.waiting import wait_until

PARENT = "b7ad6b7169203331"
REQUESTS = 48
SERVER, CLIENT, INTERNAL = 2, 3, 1  # kinds of a span
LINE = re.compile(r"\[[^\]]+\] - \[[^:\]]+:[\d.]+\] \| \[\w+\] \| \[.*\]")


@dataclass
class Deployment:
    """A service and a sidecar with one store, which send their spans to `receiver` and log into `logs`."""

    receiver: OtlpReceiver
    server: Server
    sidecar: Sidecar
    logs: Path

    def spans(self, trace: str, number: int) -> list[Received]:
        """The spans of a trace, the first begun first, once there are so many."""
        wait_until(lambda: len(self.receiver.of(trace)) >= number, 60, lambda: self.receiver.of(trace))
        return sorted(self.receiver.of(trace), key=lambda span: (span.began_ns, -span.ended_ns))

    def lines(self, role: str = "") -> list[str]:
        """The log file of a runner, or else that of all other processes."""
        return (self.logs / role / LOG_FILE).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Server], reference: dict[str, str]
) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("telemetry")
    compiled("sentiment", root / "versions" / "v2")
    with OtlpReceiver() as receiver:
        environment = {
            "BUNRIWIKI_MODEL_STORE": str(root / "store"),
            "BUNRIWIKI_LOG_FOLDER": str(root / "logs"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        server = start(grpc=True, environment=environment)
        registry = {
            "BUNRIWIKI_SOURCES": f"sentiment=local:{root / 'versions'}",
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
            "BUNRIWIKI_MONITOR_SECONDS": "0",
        }
        sidecar = Sidecar(root / "store", root / "sidecar.log", environment | registry | reference)
        yield Deployment(receiver, server, sidecar, root / "logs")
        sidecar.stop()
        server.stop()


def check_request(spans: list[Received], name: str, model: str) -> None:
    """The three spans of a request: gateway, batch and runner, each within the one before."""
    request, batch, runner = spans
    assert [(span.name, span.kind) for span in spans] == [
        (name, SERVER), (f"batch {model}", CLIENT), (f"runner {model}", INTERNAL)
    ]  # fmt: skip
    assert (request.parent, batch.parent, runner.parent) == (PARENT, request.id, batch.id)
    assert batch.links == ((request.trace, request.id),)
    assert request.began_ns <= batch.began_ns <= runner.began_ns <= runner.ended_ns <= batch.ended_ns <= request.ended_ns
    assert batch.attributes["bunriwiki.model.version"] == runner.attributes["bunriwiki.model.version"] == BUNDLED_VERSION
    assert runner.attributes["bunriwiki.forward.seconds"] > 0
    assert {span.resource["service.name"] for span in spans} == {"bunriwiki"}
    assert not any(span.failed for span in spans)


def test_a_rest_request_is_one_trace_and_its_log_line_has_it(deployment: Deployment) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    text = "정말 재미있어요"
    header = {"traceparent": f"00-{trace}-{PARENT}-01"}
    answer = httpx.post(f"{deployment.server.url}/kcbert/prediction", json={"text": text}, headers=header, timeout=30)
    assert answer.status_code == 200
    spans = deployment.spans(trace, 3)
    check_request(spans, "POST /kcbert/prediction", "kcbert")
    assert spans[2].attributes["process.pid"] == deployment.server.workers()["kcbert"].pid
    assert spans[0].attributes["http.response.status_code"] == 200
    assert text not in str(spans)
    [line] = [line for line in deployment.lines() if line.endswith(f" | trace {trace}]")]
    assert "POST /kcbert/prediction 200" in line


def test_a_grpc_call_is_one_trace(deployment: Deployment) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    with grpc.insecure_channel(deployment.server.grpc_address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(text_call(), timeout=30, metadata=(("traceparent", f"00-{trace}-{PARENT}-01"),))
    check_request(deployment.spans(trace, 3), "inference.GRPCInferenceService/ModelInfer", "sentiment")


def test_requests_of_one_batch_are_linked(deployment: Deployment) -> None:
    traces = [f"{number:032x}" for number in range(1, REQUESTS + 1)]

    def call(trace: str) -> int:
        header = {"traceparent": f"00-{trace}-{PARENT}-01"}
        path = f"{deployment.server.url}/kcbert/prediction"
        return httpx.post(path, json={"text": "좋은 하루 보내세요" * 10}, headers=header, timeout=30).status_code

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(call, traces)) == {200}

    def linked() -> list[str]:
        return [trace for span in list(deployment.receiver.spans) for trace, _ in span.links if trace in traces]

    wait_until(lambda: len(linked()) >= REQUESTS, 60, linked)
    assert sorted(linked()) == traces  # each request in exactly one batch
    assert any(len(span.links) > 1 and span.attributes["bunriwiki.batch.size"] > 1 for span in deployment.receiver.spans)


def test_an_import_is_one_trace(deployment: Deployment) -> None:
    deployment.sidecar.start()
    deployment.sidecar.wait_for_status("sentiment", "promoted")
    [whole] = wait_until(lambda: [span for span in deployment.receiver.spans if span.name == "import sentiment"])
    wait_until(lambda: any(span.name == "drain" for span in deployment.receiver.of(whole.trace)))
    phases = [span for span in deployment.receiver.of(whole.trace) if span is not whole]
    assert {"fetch", "wait", "compile", "evaluate", "publish", "prepare", "activate", "drain"} <= {span.name for span in phases}
    assert {span.parent for span in phases} == {whole.id}
    assert whole.resource["service.name"] == "bunriwiki-sidecar"
    assert (whole.attributes["bunriwiki.sync.status"], whole.failed) == ("promoted", False)
    assert any("evaluate took" in line and line.endswith(f" | trace {whole.trace}]") for line in deployment.lines())


def test_every_process_writes_to_the_log_folder_and_follows_the_level(deployment: Deployment) -> None:
    Layout(deployment.sidecar.layout.root).log_level.write_text("DEBUG\n")
    changed = "the log level is now DEBUG"
    # gateway, supervisor and sidecar share a file; each runner has its own
    wait_until(lambda: sum(changed in line for line in deployment.lines()) == 3, 60, deployment.lines)
    for model in ("yolo", "kcbert", "sentiment"):
        wait_until(lambda model=model: any(changed in line for line in deployment.lines(model)))  # type: ignore[misc]
        assert f"{model} serves" in "\n".join(deployment.lines(model))
    assert all(LINE.fullmatch(line) for role in ("", "yolo", "kcbert", "sentiment") for line in deployment.lines(role))
