"""Open Inference by REST and gRPC, at the real service: unmodified clients, and each rule of the protocol."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import text_call
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import PHOTOS, ROOT
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import BUNDLED_VERSION

CLIENTS_ENV = ROOT / ".venv-clients"  # third-party clients, unmodified
TEXTS = ["정말 재미있어요", "돈이 아깝다", "좋은 하루 보내세요"]
PHOTO = (PHOTOS / "plastic_bottle.jpg").read_bytes()


@pytest.fixture(scope="module")
def stub(server: Server) -> Any:
    return GRPCInferenceServiceStub(grpc.insecure_channel(server.grpc_address))


def example(name: str, *arguments: str) -> str:
    """The output of an example."""
    command = (
        [CLIENTS_ENV / "bin" / "python", "-W", "ignore", ROOT / "examples" / name]
        if name.endswith(".py")
        else [ROOT / "examples" / name]
    )
    ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_triton_http(server: Server) -> None:
    output = example("triton_http.py", server.url.removeprefix("http://"))
    assert "live: True ready: True kcbert: True" in output
    assert "two photos, raw: [1, 1] [b'plastic', b'plastic']" in output
    assert output.count("['긍정', '긍정']") == 2
    assert f"scores (2, 3) version {BUNDLED_VERSION}" in output
    assert "kcbert, later: none" in output
    assert "index: ['kcbert', 'sentiment', 'yolo']" in output


def test_triton_grpc(server: Server) -> None:
    output = example("triton_grpc.py", server.grpc_address)
    assert "live: True ready: True kcbert: True" in output
    assert "two photos: [1, 1] [b'plastic', b'plastic']" in output
    assert "sentiment: ['긍정', '긍정'] (2, 3)" in output
    assert "as a stream: ['0', '1', '2']" in output
    assert "index: ['kcbert', 'sentiment', 'yolo']" in output


def test_kserve(server: Server) -> None:
    output = example("kserve_client.py", server.url, server.grpc_address)
    assert "REST live: True ready: True" in output
    assert "REST sentiment: ['긍정', '부정']" in output
    assert "gRPC live: True ready: True" in output
    assert f"gRPC sentiment: ['긍정', '부정'] version {BUNDLED_VERSION}" in output


def test_bentoml_client(server: Server) -> None:
    assert "yolo: ['plastic']" in example("bentoml_client.py", server.url)


def test_curl(server: Server) -> None:
    live, metadata, texts, photo = example("curl.sh", server.url).strip().splitlines()
    assert json.loads(live) == {"ready": True}
    assert json.loads(metadata)["outputs"][2] == {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}
    assert json.loads(texts)["outputs"][0]["data"] == ["긍정", "부정"]
    assert json.loads(photo)["outputs"][2]["data"] == ["plastic"]


def text_tensor(*texts: str) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}


def infer(server: Server, model: str, body: Any, path: str = "") -> httpx.Response:
    return CLIENT.post(f"{server.url}/v2/models/{model}{path}/infer", json=body, timeout=30)


def by_name(response: httpx.Response) -> dict[str, Any]:
    """The data of the outputs."""
    return {tensor["name"]: tensor["data"] for tensor in response.json()["outputs"]}


def by_grpc(stub: Any, model: str, name: str, *items: bytes, raw: bool = False, version: str = "") -> Any:
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(items)])
    if raw:
        request.raw_input_contents.append(b"".join(len(item).to_bytes(4, "little") + item for item in items))
    else:
        tensor.contents.bytes_contents.extend(items)
    return stub.ModelInfer(request, timeout=30)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("model", "path"), [("kcbert", "/kcbert/prediction"), ("sentiment", "/predict")])
def test_the_three_protocols_give_the_same_answer(server: Server, stub: Any, model: str, path: str, raw: bool) -> None:
    for text in TEXTS:
        plain = CLIENT.post(server.url + path, json={"text": text}).json()
        outputs = by_name(infer(server, model, {"inputs": [text_tensor(text)]}))
        scores = np.array(list(plain["details"].values()), dtype=np.float32)
        assert outputs["label"] == [plain.get("label") or plain["sentiment"]]
        assert np.array_equal(np.array(outputs["scores"], dtype=np.float32), scores)
        answer = by_grpc(stub, model, "text", text.encode(), raw=raw)
        tensors = {tensor.name: tensor for tensor in answer.outputs}
        assert tensors["scores"].parameters["labels"].string_param == ",".join(plain["details"])
        if raw:
            assert np.array_equal(np.frombuffer(answer.raw_output_contents[2], dtype="<f4"), scores)
        else:
            assert np.array_equal(np.array(tensors["scores"].contents.fp32_contents, dtype=np.float32), scores)


def test_many_inputs_are_one_batch_with_the_same_answers(server: Server, stub: Any) -> None:
    assert server.serving("kcbert") == BUNDLED_VERSION
    alone = [infer(server, "kcbert", {"inputs": [text_tensor(text)]}).json()["outputs"] for text in TEXTS]
    stats = stub.ModelStatistics(pb.ModelStatisticsRequest(name="kcbert")).model_stats[0]
    together = infer(server, "kcbert", {"inputs": [text_tensor(*TEXTS)]}).json()["outputs"]
    after = stub.ModelStatistics(pb.ModelStatisticsRequest(name="kcbert")).model_stats[0]
    assert after.execution_count - stats.execution_count == 1
    assert after.inference_count - stats.inference_count == len(TEXTS)
    assert together[0]["data"] == [outputs[0]["data"][0] for outputs in alone]
    assert together[2]["data"] == pytest.approx([score for outputs in alone for score in outputs[2]["data"]], abs=1e-3)


def test_a_photo_gets_the_same_answer_by_the_three_protocols(server: Server, stub: Any) -> None:
    plain = CLIENT.post(server.url + "/yolo/prediction", content=PHOTO, headers={"Content-Type": "image/jpeg"}).json()
    boxes = [detection["box"] for detection in plain["detections"]]
    image = {**text_tensor(base64.b64encode(PHOTO).decode()), "name": "image", "parameters": {"content_type": "base64"}}
    outputs = by_name(infer(server, "yolo", {"inputs": [image]}))
    assert np.array_equal(np.array(outputs["boxes"], dtype="<f4"), np.array(boxes, dtype="<f4").ravel())
    assert outputs["labels"] == [detection["label"] for detection in plain["detections"]]
    assert outputs["uncertain"] == [detection["uncertain"] for detection in plain["detections"]]
    answer = by_grpc(stub, "yolo", "image", PHOTO, raw=True)
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[0], dtype="<f4"), np.array(boxes, dtype="<f4").ravel())
    assert np.frombuffer(answer.raw_output_contents[3], dtype="<i4").tolist() == [len(boxes)]


RULES: list[tuple[str, str, dict[str, Any] | None, int, str]] = [
    ("GET", "/v2", None, 200, '"name": "bunriwiki"'),
    ("GET", "/v2/", None, 200, '"extensions"'),
    ("GET", "/v2/health/live", None, 200, '{"live": true}'),
    ("GET", "/v2/health/ready", None, 200, '{"ready": true}'),
    ("GET", "/v2/models/yolo", None, 200, '"platform": "onnxruntime_onnx"'),
    ("GET", f"/v2/models/yolo/versions/{BUNDLED_VERSION}", None, 200, f'"versions": ["{BUNDLED_VERSION}"]'),
    ("GET", "/v2/models/yolo/versions/v9", None, 404, "no version 'v9'"),
    ("GET", "/v2/models/sentiment/ready", None, 200, '"ready": true'),
    ("GET", f"/v2/models/sentiment/versions/{BUNDLED_VERSION}/ready", None, 200, '"ready": true'),
    ("GET", "/v2/models/sentiment/versions/v9/ready", None, 503, '"ready": false'),
    ("GET", "/v2/models/nobody", None, 404, "no model 'nobody'"),
    ("GET", "/v2/models/nobody/ready", None, 404, "no model 'nobody'"),
    ("GET", "/v2/models/stats", None, 200, '"model_stats"'),
    ("GET", "/v2/models/yolo/stats", None, 200, '"inference_stats"'),
    ("GET", f"/v2/models/yolo/versions/{BUNDLED_VERSION}/stats", None, 200, f'"version": "{BUNDLED_VERSION}"'),
    ("GET", "/v2/nowhere", None, 404, "nothing at"),
    ("POST", "/v2/health/live", {}, 405, "Use GET"),
    ("GET", "/v2/models/yolo/infer", None, 405, "Use POST"),
    ("POST", "/v2/repository/index", {}, 200, '"state": "READY"'),
    ("POST", "/v2/repository/index", {"ready": True}, 200, '"name": "yolo"'),
    ("POST", "/v2/repository/models/yolo/load", {}, 403, "BUNRIWIKI_ADMIN_TOKEN"),
    ("POST", "/v2/repository/models/yolo/unload", {}, 403, "BUNRIWIKI_ADMIN_TOKEN"),
    ("POST", "/v2/models/nobody/infer", {"inputs": [text_tensor("가")]}, 404, "no model"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor("가")], "id": "7"}, 200, '"id": "7"'),
    (
        "POST",
        f"/v2/models/kcbert/versions/{BUNDLED_VERSION}/infer",
        {"inputs": [text_tensor("가")]},
        200,
        f'"{BUNDLED_VERSION}"',
    ),
    ("POST", "/v2/models/kcbert/versions/v9/infer", {"inputs": [text_tensor("가")]}, 404, "no version 'v9'"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor("가")], "outputs": [{"name": "label"}]}, 200, '"label"'),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor("가")], "outputs": [{"name": "x"}]}, 400, "no output 'x'"),
    ("POST", "/v2/models/kcbert/infer", {}, 400, "inputs"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": []}, 400, "takes one"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor("가"), text_tensor("나")]}, 400, "takes one"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor("가"), "name": "x"}]}, 400, "'text'"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor("가"), "datatype": "FP32"}]}, 400, "BYTES"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor("가"), "shape": [2]}]}, 400, "shape"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor("가"), "shape": [-1]}]}, 400, "negative"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor("가"), "shape": [2**40]}]}, 413, "at most"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [{**text_tensor(), "shape": [0]}]}, 400, "elements"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor(" ")]}, 400, "empty"),
    ("POST", "/v2/models/kcbert/infer", {"inputs": [text_tensor("가")], "parameters": {"x": 1}}, 400, "'x'"),
    ("POST", "/v2/models/yolo/infer", {"inputs": [{**text_tensor("no photo"), "name": "image"}]}, 415, "JPEG"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), RULES)
def test_the_rules_of_the_protocol(
    server: Server, method: str, path: str, body: dict[str, Any] | None, status: int, text: str
) -> None:
    response = CLIENT.request(method, server.url + path, json=body, timeout=30)
    assert response.status_code == status, response.text
    assert text in response.text
    assert status < 400 or status == 503 or set(response.json()) == {"error"}


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ({}, b"no JSON", "not valid JSON"),
        ({"Inference-Header-Content-Length": "9999"}, b"{}", "Inference-Header-Content-Length"),
        ({"Inference-Header-Content-Length": "x"}, b"{}", "Inference-Header-Content-Length"),
        ({"Inference-Header-Content-Length": "\xb2"}, b"{}", "Inference-Header-Content-Length"),
        ({"Inference-Header-Content-Length": "9" * 5000}, b"{}", "Inference-Header-Content-Length"),
    ],
)
def test_broken_bodies(server: Server, headers: dict[str, str], body: bytes, text: str) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = CLIENT.post(f"{server.url}/v2/models/kcbert/infer", content=body, headers=raw)
    assert response.status_code == 400
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    "behind", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x01\x00\x00\x00a\x01\x00\x00\x00b", b"\x00\x00\x00\x00"]
)
def test_wrong_lengths(server: Server, behind: bytes) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(behind)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = CLIENT.post(f"{server.url}/v2/models/kcbert/infer", content=head + behind, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_name": "nobody"}, "NOT_FOUND"),
        ({"model_version": "v9"}, "NOT_FOUND"),
        ({"raw_input_contents": [b"\xff\xff\xff\xff"]}, "INVALID_ARGUMENT"),
        ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT"),
        ({"datatype": "FP32"}, "INVALID_ARGUMENT"),
        ({"shape": [-1]}, "INVALID_ARGUMENT"),
        ({"shape": [2]}, "INVALID_ARGUMENT"),
    ],
)
def test_grpc_errors(stub: Any, change: dict[str, Any], code: str) -> None:
    request = pb.ModelInferRequest(model_name="kcbert")
    tensor = request.inputs.add(name="text", datatype=change.pop("datatype", "BYTES"), shape=change.pop("shape", [1]))
    if "raw_input_contents" not in change:
        tensor.contents.bytes_contents.append("가".encode())
    request.MergeFrom(pb.ModelInferRequest(**change))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=30)
    assert caught.value.code().name == code
    assert caught.value.details()


def test_grpc_health_and_admin_calls(server: Server, stub: Any) -> None:
    health: Any = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.grpc_address))
    for service in ("", "yolo", "kcbert", "sentiment", "inference.GRPCInferenceService"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="yolo"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_call_past_its_deadline_costs_no_forward_pass(server: Server, stub: Any) -> None:
    def executions() -> int:
        found = stub.ModelStatistics(pb.ModelStatisticsRequest(name="kcbert")).model_stats[0]
        return int(found.inference_stats.compute_infer.count)

    before = executions()
    long = ("정말 재미있어요 " * 400).encode()
    busy = threading.Thread(target=by_grpc, args=(stub, "kcbert", "text", *[long] * 128))  # most of a second
    busy.start()
    time.sleep(0.1)  # the runner is busy now
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(text_call("kcbert"), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    busy.join()
    time.sleep(0.3)
    assert executions() == before + 2  # those of the busy call, which fill two batches


def test_grpc_calls_are_counted(server: Server, stub: Any) -> None:
    stub.ServerLive(pb.ServerLiveRequest())
    path = "/inference.GRPCInferenceService/ServerLive"
    assert server.metric("http_requests_total", protocol="grpc", path=path, status="OK") >= 1
    assert server.metric("http_requests_total", protocol="rest", path="/v2/models/{model}/infer", status="200") >= 1


def test_a_port_that_is_in_use_ends_the_start(server: Server, start: Callable[..., Server]) -> None:
    with pytest.raises(AssertionError, match=f"Port {server.grpc_port} for gRPC is not available"):
        start(environment={"BUNRIWIKI_GRPC_PORT": str(server.grpc_port)})


def test_broken_and_huge_messages_leave_no_memory_behind(server: Server, stub: Any) -> None:
    channel = grpc.insecure_channel(server.grpc_address)
    junk: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    gateway = server.workers()["bunriwiki"]
    taken = []
    for _ in range(3):
        for _ in range(60):
            for data in (b"\xff" * 1000, b"\x0a\xff\xff\xff\x7f"):
                with pytest.raises(grpc.RpcError):
                    junk(data, timeout=20)
            CLIENT.post(f"{server.url}/v2/models/kcbert/infer", content=b"[" * 100_000)
        for _ in range(5):
            with pytest.raises(grpc.RpcError):
                junk(b"\x00" * 11 * 2**20, timeout=20)
            assert CLIENT.post(f"{server.url}/v2/models/yolo/infer", content=b" " * 11 * 2**20).status_code == 413
        taken.append(gateway.memory_info().rss)
    assert gateway.is_running()
    assert taken[2] - taken[1] < 20 * 2**20, [rss // 2**20 for rss in taken]
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
