"""Open Inference over REST, with runners that need no process."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from bunriwiki import __version__
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.inference.handlers import EXTENSIONS
from bunriwiki.protocols.inference.tensors import join_bytes, split_bytes
from bunriwiki.protocols.rest.infer_body import JSON_LENGTH
from bunriwiki.protocols.rest.open_inference import OpenInferenceRoutes
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Router
from bunriwiki.testing.paths import MODELS as SHIPPED
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tickets import TicketReader, ticket_issuer
from tests.bunriwiki.protocols.fakes import FakeService

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


class Service(FakeService):
    """The routes over the handlers."""

    def __init__(self, serving: str = "v7", feedback: Feedback | None = None) -> None:
        super().__init__(serving, feedback)
        self.router = Router(OpenInferenceRoutes(self.handlers).routes())

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
        async def answer() -> Response:
            match = self.router.match(path)
            assert match
            assert match.route.allows(method)
            return await match.route.endpoint(Request(Headers(headers), body, path_params=match.path_params))

        return anyio.run(answer)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", path, body, headers)

    def infer(self, name: str, content: Any, path: str = "") -> dict[str, Any]:
        answer = self.post(f"/v2/models/{name}{path}/infer", json.dumps(content).encode())
        return dict(json.loads(answer.body))


def tensor(name: str, *data: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": list(data), **more}


def test_many_texts_are_one_batch() -> None:
    service = Service()
    answer = service.infer("kcbert", {"inputs": [tensor("text", "가", "나")], "id": "7"})
    assert service.runners["kcbert"].batches == [["가", "나"]]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("kcbert", "v7", "7")
    assert [(output["name"], output["datatype"], output["shape"]) for output in answer["outputs"]] == [
        ("label", "BYTES", [2]), ("score", "FP32", [2]), ("scores", "FP32", [2, 2]),
    ]  # fmt: skip
    assert answer["outputs"][2]["data"] == [0.75, 0.25, 0.75, 0.25]
    assert answer["outputs"][2]["parameters"] == {"labels": "none,other"}


def test_each_element_has_a_ticket_where_feedback_is_configured() -> None:
    body = {"inputs": [tensor("text", "가", "나")]}
    without = Service().infer("kcbert", body)
    answer = Service(feedback=Feedback(ticket_issuer("k" * 32, 60))).infer("kcbert", body)
    tickets = answer.pop("parameters")["feedback_tickets"].split(",")
    assert answer == without
    found = [TicketReader(["k" * 32]).read(ticket) for ticket in tickets]
    assert [(ticket.version, ticket.labels) for ticket in found] == [("v7", [("none", 0.75)])] * 2
    assert found[0].nonce != found[1].nonce


def test_photos_and_their_thresholds(bottle: bytes) -> None:
    service = Service()
    photo = base64.b64encode(bottle).decode()
    image = tensor("image", photo, photo, parameters={"content_type": "base64"})
    answer = service.infer("yolo", {"inputs": [image], "parameters": {"confidence": 0.5}})
    [batch] = service.runners["yolo"].batches
    assert [(photo.data, photo.confidence, photo.iou) for photo in batch] == [(bottle, 0.5, 0.5)] * 2
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["num_detections"]["data"] == [2, 2]
    assert outputs["boxes"]["shape"] == [4, 4]
    assert outputs["labels"]["data"] == ["plastic"] * 4
    assert outputs["uncertain"]["data"] == [False] * 4


def test_raw_tensors_both_ways(bottle: bytes) -> None:
    raw = join_bytes([bottle])
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    answer = Service().post("/v2/models/yolo/infer", head + raw, {"inference-header-content-length": str(len(head))})
    length = int(answer.headers[JSON_LENGTH])
    content, raw_outputs = json.loads(answer.body[:length]), answer.body[length:]
    assert answer.media_type == "application/octet-stream"
    sizes = {output["name"]: output["parameters"]["binary_data_size"] for output in content["outputs"]}
    assert sizes == {"boxes": 32, "scores": 8, "labels": 22, "num_detections": 4, "uncertain": 2}
    assert split_bytes("labels", raw_outputs[40:62], 2) == [b"plastic", b"plastic"]


def test_a_version_in_memory_answers_and_another_does_not() -> None:
    service = Service()
    body = {"inputs": [tensor("text", "가")]}
    assert service.infer("kcbert", body, "/versions/v7")["model_version"] == "v7"
    assert service.infer("kcbert", body, "/versions/v6")["model_version"] == "v6"
    service.runners["kcbert"].versions = ["v7"]
    for version in ("v6", "v5"):
        with pytest.raises(RequestError) as caught:
            service.infer("kcbert", body, f"/versions/{version}")
        assert caught.value.status == 404


def rejected(service: Service, content: Any, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(RequestError) as caught:
        service.post("/v2/models/kcbert/infer", json.dumps(content).encode(), headers)
    return caught.value.status


def test_the_parameters_of_tritons_clients() -> None:
    service = Service()
    text = {"inputs": [tensor("text", "가")]}
    assert service.infer("kcbert", {**text, "parameters": {"timeout": 5_000_000, "priority": 1}})["model_version"] == "v7"
    service.runners["kcbert"].seconds = 0.2
    assert rejected(service, {**text, "parameters": {"timeout": 10_000}}) == 504
    for timeout in (0, -1, "soon", True, 1.5):
        assert rejected(service, {**text, "parameters": {"timeout": timeout}}) == 400
    assert rejected(service, {**text, "outputs": [{"name": "label", "parameters": {"classification": 2}}]}) == 400
    assert rejected(service, text, {"content-encoding": "gzip"}) == 415


def test_the_server_has_the_projects_version() -> None:
    project = tomllib.loads((SHIPPED.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


def test_one_bad_input_fails_the_call() -> None:
    service = Service()
    with pytest.raises(RequestError) as caught:
        service.infer("kcbert", {"inputs": [tensor("text", "가", " ")]})
    assert caught.value.status == 422
    assert service.runners["kcbert"].batches == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "bunriwiki", "version": __version__, "extensions": list(EXTENSIONS)}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/kcbert/ready", {"name": "kcbert", "ready": True}),
        ("/v2/models/kcbert/versions/v6/ready", {"name": "kcbert", "ready": True}),
        ("/v2/models/kcbert/versions/v8/ready", {"name": "kcbert", "ready": False}),
    ],
)
def test_health_and_metadata_of_the_server(path: str, expected: dict[str, Any]) -> None:
    answer = Service(BUNDLED_VERSION).get(path)
    assert json.loads(answer.body) == expected
    assert answer.status == (503 if expected.get("ready") is False else 200)


def test_metadata() -> None:
    service = Service(BUNDLED_VERSION)
    yolo = json.loads(service.get("/v2/models/yolo").body)
    assert (yolo["versions"], yolo["platform"]) == ([BUNDLED_VERSION, "v6"], "onnxruntime_onnx")
    assert [output["name"] for output in yolo["outputs"]] == [
        "boxes", "scores", "labels", "num_detections", "uncertain",
    ]  # fmt: skip
    sentiment = json.loads(service.get(f"/v2/models/sentiment/versions/{BUNDLED_VERSION}").body)
    assert sentiment["platform"] == "mlflow_pyfunc"
    assert sentiment["outputs"][2]["shape"] == [-1, 3]
    for path, status in (
        ("/v2/models/yolo/versions/v9", 404),
        ("/v2/models/nobody", 404),
        ("/v2/models/yolo/versions/v6", 503),
    ):
        with pytest.raises(RequestError) as caught:  # v6 is in memory, but its folder is gone
            service.get(path)
        assert caught.value.status == status


def test_the_index_and_the_statistics() -> None:
    service = Service(BUNDLED_VERSION)
    found = json.loads(service.post("/v2/repository/index", b"").body)
    assert {(entry["version"], entry["state"]) for entry in found if entry["name"] == "yolo"} == {
        (BUNDLED_VERSION, "READY"), ("v6", "READY"), ("v8", "LOADING"),
    }  # fmt: skip
    ready = json.loads(service.post("/v2/repository/index", b'{"ready": true}').body)
    assert {entry["state"] for entry in ready} == {"READY"}
    service.infer("kcbert", {"inputs": [tensor("text", "가", "나")]})
    [stats] = json.loads(service.get("/v2/models/kcbert/stats").body)["model_stats"]
    assert (stats["version"], stats["inference_count"], stats["execution_count"]) == (BUNDLED_VERSION, 2, 1)
    assert stats["inference_stats"]["success"]["count"] == 1
    assert {stats["name"] for stats in json.loads(service.get("/v2/models/stats").body)["model_stats"]} == set(service.runners)
    with pytest.raises(RequestError) as caught:
        service.get("/v2/models/kcbert/versions/v9/stats")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("path", "template", "params"),
    [
        ("/v2", "/v2", {}),
        ("/v2/", "/v2", {}),
        ("/v2/models/stats", "/v2/models/stats", {}),
        ("/v2/models/yolo", "/v2/models/{model}", {"model": "yolo"}),
        ("/v2/models/yolo/versions/v1", "/v2/models/{model}", {"model": "yolo", "version": "v1"}),
        ("/v2/models/yolo/versions/v1/infer", "/v2/models/{model}/infer", {"model": "yolo", "version": "v1"}),
        ("/v2/repository/models/yolo/load", "/v2/repository/models/{model}/load", {"model": "yolo"}),
        ("/v2/models/yolo/versions", None, {}),
        ("/v2/models/yolo/nothing", None, {}),
        ("/v2/nowhere", None, {}),
        ("/v2/models/yolo/infer\n", None, {}),
    ],
)
def test_routes(path: str, template: str | None, params: dict[str, str]) -> None:
    match = Service().router.match(path)
    assert (match and match.route.path) == template
    assert dict(match.path_params if match else {}) == params


@pytest.mark.usefixtures("short_token_delay")
def test_control_needs_a_token_and_a_sidecar() -> None:
    service = Service()
    for headers, status in (({}, 401), ({"authorization": "Bearer x"}, 401), ({"authorization": "Bearer secret"}, 503)):
        with pytest.raises(RequestError) as caught:
            service.post("/v2/repository/models/yolo/load", b"", headers)
        assert caught.value.status == status


@given(JSONS)
def test_any_json_is_answered_or_rejected(content: Any) -> None:
    with pytest.raises(RequestError) as caught:
        Service().infer("kcbert", content)
    assert caught.value.status in (400, 413)


TENSORS = st.fixed_dictionaries({"name": st.just("text"), "datatype": st.just("BYTES"), "shape": JSONS})


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSORS, max_size=2)}, optional={"id": JSONS, "parameters": JSONS, "outputs": JSONS}
    ),
    st.lists(JSONS, max_size=2),
)
def test_nearly_right_json_is_answered_or_rejected(content: dict[str, Any], data: list[Any]) -> None:
    for given_input in content["inputs"]:
        given_input["data"] = data
    try:
        answer = Service().infer("kcbert", content)
    except RequestError as error:
        assert error.status in (400, 413, 422)
    else:
        assert answer["model_version"] == "v7"


@given(st.binary(max_size=60), st.integers(0, 70), st.integers(-1, 70))
def test_any_bytes_are_answered_or_rejected(body: bytes, stated: int, size: int) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [text]}).encode()
    for length in (stated, len(head)):
        try:
            answer = Service().post("/v2/models/kcbert/infer", head + body, {"inference-header-content-length": str(length)})
        except RequestError as error:
            assert error.status in (400, 413, 422)
        else:
            assert (answer.headers["X-Model-Name"], answer.headers["X-Model-Version"]) == ("kcbert", "v7")
