from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import Message

from bunriwiki.artifacts.answers import Detections
from bunriwiki.disposal.advice import Guide
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers import memory
from bunriwiki.protocols.handlers.dataplane import DataPlane
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.protocols.rest import responses
from bunriwiki.protocols.rest.app import RestApp
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.web.bodies import ReadLimits
from bunriwiki.web.tickets import TicketReader, ticket_issuer
from bunriwiki.web.tokens import TokenGate
from tests.bunriwiki.protocols.fakes import BOX, DETECTIONS, FOUND, FakeRunner, FakeService, FakeStatus, classified, plane
from tests.bunriwiki.protocols.rest.test_metrics import value

pytestmark = pytest.mark.anyio

GUIDE = Guide.read()
TEXT = {"text": "정말 재미있어요"}
JSON = {"Content-Type": "application/json"}


async def alive(request: Request) -> PlainTextResponse:
    return PlainTextResponse("alive")


async def raising(request: Request) -> PlainTextResponse:
    raise ValueError("secret")


async def unavailable(request: Request) -> PlainTextResponse:
    raise HTTPException(503, "secret")


async def broken(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Traceback: secret", status_code=500)


class FakeScrape(Scrape):
    def __init__(self) -> None:
        pass

    async def text(self) -> bytes:
        return b"requests_total 1.0\n"


def server(
    dataplane: DataPlane,
    feedback: Feedback | None = None,
    *,
    read_seconds: float = 30,
    kept: memory.Memory | None = None,
    sidecar: Sidecar | None = None,
    open_inference: OpenInference | None = None,
) -> RestServer:
    gate = TokenGate(["secret"])
    return RestServer(
        dataplane=dataplane,
        open_inference=open_inference or FakeService().handlers,
        sidecar=sidecar or Sidecar("http://127.0.0.1:9", gate, 1),
        gate=gate,
        guide=GUIDE,
        memory=kept or memory.Memory(),
        read_limits=ReadLimits(read_seconds),
        log_requests=True,
        scrape=FakeScrape(),
        feedback=feedback,
    )


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> RestApp:
    monkeypatch.setattr(responses, "LINGER_SECONDS", 0.05)
    app = RestApp()
    app.server = server(plane())
    return app


@pytest.fixture
async def client(rest: RestApp) -> AsyncIterator[httpx.AsyncClient]:
    endpoints = {"/livez": alive, "/schema.json": broken, "/": raising, "/healthz": unavailable}
    app = rest.wrap(Router([Route(path, endpoint) for path, endpoint in endpoints.items()]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_a_comment(client: httpx.AsyncClient) -> None:
    response = await client.post("/kcbert/prediction", json=TEXT)
    assert response.status_code == 200
    assert response.json() == {
        "label": "none", "score": 0.75, "details": {"none": 0.75, "other": 0.25}, "truncated": False,
    }  # fmt: skip
    assert response.headers["x-model-name"] == "fake"
    assert response.headers["x-model-version"] == "v7"


async def test_a_review(client: httpx.AsyncClient) -> None:
    response = await client.post("/predict", json=TEXT)
    assert response.json() == {"sentiment": "긍정", "score": 0.75, "details": {"긍정": 0.75, "other": 0.25}}


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp", "IMAGE/JPEG; q=1"])
async def test_a_raw_photo(client: httpx.AsyncClient, bottle: bytes, media_type: str) -> None:
    response = await client.post("/yolo/prediction", content=bottle, headers={"Content-Type": media_type})
    assert response.json() == json.loads(msgspec.json.encode(DETECTIONS))


async def test_a_photo_in_a_form_and_its_thresholds(client: httpx.AsyncClient, rest: RestApp, bottle: bytes) -> None:
    runner = FakeRunner(DETECTIONS)
    rest.server = server(plane(yolo=runner))
    url = "/yolo/prediction?confidence=0.5"
    response = await client.post(url, files={"image": ("a.jpg", bottle)}, data={"iou": "0.25"})
    assert response.status_code == 200
    [[photo]] = runner.batches
    assert (photo.data, photo.confidence, photo.iou) == (bottle, 0.5, 0.25)


async def test_advice_comes_once_for_each_class_found(client: httpx.AsyncClient, rest: RestApp, bottle: bytes) -> None:
    boxes = (*FOUND.detections, replace(BOX, label="battery"), replace(BOX, label="glass"))
    rest.server = server(plane(yolo=FakeRunner(Detections(detections=boxes, image=FOUND.image))))
    headers = {"Content-Type": "image/jpeg"}
    plain = await client.post("/yolo/prediction", content=bottle, headers=headers)
    advised = await client.post("/yolo/prediction?advice=true", content=bottle, headers=headers)
    answer = advised.json()
    advice = answer.pop("advice")
    assert answer == plain.json()
    assert advice == {
        "plastic": GUIDE.classes["plastic"].model_dump(mode="json"),
        "battery": None,
        "glass": GUIDE.classes["glass"].model_dump(mode="json"),
    }
    assert list(advice) == ["plastic", "battery", "glass"]
    assert advised.headers["x-model-version"] == "v7"


async def test_an_uncertain_object_says_how_to_tell_its_material_and_gets_no_advice(
    client: httpx.AsyncClient, rest: RestApp, bottle: bytes
) -> None:
    unclear = replace(BOX, label_ko="재질을 알 수 없음", uncertain=True, how_to_tell="두드려 보세요.")
    boxes = (replace(unclear, label="glass"), unclear, BOX)
    rest.server = server(plane(yolo=FakeRunner(Detections(detections=boxes, image=FOUND.image))))
    answer = (await client.post("/yolo/prediction?advice=true", content=bottle, headers={"Content-Type": "image/jpeg"})).json()
    assert [(one["uncertain"], one["how_to_tell"]) for one in answer["detections"]] == [
        (True, "두드려 보세요."), (True, "두드려 보세요."), (False, None),
    ]  # fmt: skip
    assert answer["advice"] == {"glass": None, "plastic": GUIDE.classes["plastic"].model_dump(mode="json")}


async def test_a_photo_with_nothing_in_it_gets_no_advice(client: httpx.AsyncClient, bottle: bytes) -> None:
    response = await client.post("/yolo/prediction", files={"image": bottle}, data={"advice": "true"})
    assert response.json() == {**json.loads(msgspec.json.encode(DETECTIONS)), "advice": {}}


@pytest.mark.parametrize("query", ["", "?advice=false"])
async def test_without_advice_the_answer_is_the_runners(
    client: httpx.AsyncClient, rest: RestApp, bottle: bytes, query: str
) -> None:
    rest.server = server(plane(yolo=FakeRunner(FOUND)))
    response = await client.post(f"/yolo/prediction{query}", content=bottle, headers={"Content-Type": "image/jpeg"})
    assert response.content == msgspec.json.encode(FOUND)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b'{"text": "\xff"}', 400, "not valid JSON"),
        (b'{"text": "\\ud800"}', 400, "not valid JSON"),
        (b"{}", 422, "`text` is missing"),
        (b"[]", 422, "JSON object"),
        (b"null", 422, "JSON object"),
        (b'{"text": ""}', 422, "empty"),
        (b'{"text": "  "}', 422, "empty"),
        (b'{"text": 3}', 422, "must be a string"),
        (b'{"text": null}', 422, "must be a string"),
        (b'{"text": ["a"]}', 422, "must be a string"),
        (b'{"text": "a", "more": 1}', 422, "'more' is unknown"),
        (json.dumps({"text": "a" * 10_001}).encode(), 413, "at most 10000 are accepted"),
    ],
)
async def test_bad_texts(client: httpx.AsyncClient, body: bytes, status: int, words: str) -> None:
    response = await client.post("/predict", content=body, headers=JSON)
    assert_problem(response, status, words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("confidence=2", "number from 0 to 1"),
        ("confidence=nan", "number from 0 to 1"),
        ("confidence=0_1", "number from 0 to 1"),
        ("confidence=%200.5", "number from 0 to 1"),
        ("confidence=%D9%A0", "number from 0 to 1"),
        ("confidence=-0", "number from 0 to 1"),
        ("confidence=", "number from 0 to 1"),
        ("iou=x", "number from 0 to 1"),
        ("confidense=0.5", "unknown"),
        ("iou=0.5&iou=0.6", "more than once"),
        ("advice=maybe", "true or false"),
        ("advice=True", "true or false"),
        ("advice=1", "true or false"),
        ("advice=", "true or false"),
        ("advice=true&advice=true", "more than once"),
    ],
)
async def test_bad_queries(client: httpx.AsyncClient, bottle: bytes, query: str, words: str) -> None:
    headers = {"Content-Type": "image/jpeg"}
    response = await client.post(f"/yolo/prediction?{query}", content=bottle, headers=headers)
    assert_problem(response, 422, words)


@pytest.mark.parametrize("path", ["/predict", "/kcbert/prediction"])
@pytest.mark.parametrize("query", ["confidence=0.5", "advice=true"])
async def test_text_calls_take_no_query(client: httpx.AsyncClient, path: str, query: str) -> None:
    assert_problem(await client.post(f"{path}?{query}", json=TEXT), 422, "unknown")


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"files": {"photo": ("a.jpg", b"x")}}, 422, "field `image`"),
        ({"files": [("image", ("a.jpg", b"x")), ("image", ("b.jpg", b"y"))]}, 422, "exactly one"),
        ({"files": {"other": ("", b"x")}, "data": {"image": "http://127.0.0.1:1/a.jpg"}}, 422, "never fetched"),
        ({"files": {"image": ("a.jpg", b"")}}, 422, "image is empty"),
        ({"files": {"image": ("a.jpg", b"x")}, "data": {"size": "3"}}, 422, "'size' is unknown"),
        ({"files": {"image": ("a.jpg", b"x")}, "data": {"advice": "maybe"}}, 422, "field 'advice' must be true or false"),
        ({"files": {"image": ("a.jpg", b"plain text")}}, 415, "not a JPEG, PNG or WebP"),
    ],
)
async def test_bad_forms(client: httpx.AsyncClient, form: dict[str, Any], status: int, words: str) -> None:
    assert_problem(await client.post("/yolo/prediction", **form), status, words)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "multipart/form-data"}, b"x", 400),
        ({"Content-Type": "multipart/form-data; boundary=a"}, b"--b\r\n", 400),
        ({"Content-Type": "text/plain"}, b"x", 415),
        ({}, b"x", 415),
        ({"Content-Type": "image/jpeg"}, b"", 422),
        ({"Content-Type": "image/jpeg"}, b"\xff\xd8\xff", 400),
        ({"Content-Type": "application/vnd.bentoml+pickle"}, b"x", 415),
    ],
)
async def test_bad_photo_bodies(client: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int) -> None:
    assert_problem(await client.post("/yolo/prediction", content=body, headers=headers), status)


async def test_a_text_has_to_be_json(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/predict", data={"text": "a"}), 415, "Content-Type: application/json")


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", "/predict", "POST"), ("POST", "/readyz", "GET, HEAD")])
async def test_other_methods(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    assert_problem(response, 405)
    assert response.headers["allow"] == allow


async def test_a_large_body_is_rejected_by_its_announcement_and_by_its_length(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield bytes(2**20)

    for content in (bytes(11 * 2**20), endless()):
        response = await client.post("/yolo/prediction", content=content, headers={"Content-Type": "image/jpeg"})
        assert_problem(response, 413, "more than 10 MB")
        assert response.headers["connection"] == "close"


async def test_a_text_body_is_rejected_before_it_costs_anything(client: httpx.AsyncClient) -> None:
    body = b'{"text": "a"' + b"".join(b',"%d":0' % number for number in range(20_000)) + b"}"
    assert_problem(await client.post("/predict", content=body, headers=JSON), 413, "128 KB")
    longest = json.dumps({"text": "😭" * 10_000}).encode()
    assert (await client.post("/predict", content=longest, headers=JSON)).status_code == 200


async def test_a_slow_body_is_rejected(client: httpx.AsyncClient, rest: RestApp) -> None:
    rest.server = server(plane(), read_seconds=0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    assert_problem(await client.post("/predict", content=slow(), headers=JSON), 408, "within 0.05 s")


async def test_bodies_have_a_bounded_share_of_memory(
    client: httpx.AsyncClient, rest: RestApp, bottle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MB", 4 * len(bottle) + 40)
    rest.server = server(plane(yolo=FakeRunner(DETECTIONS, seconds=0.05)), kept=memory.Memory(1, 1))
    headers = {"Content-Type": "image/jpeg"}
    posts = (client.post("/yolo/prediction", content=bottle, headers=headers) for _ in range(3))
    responses = await asyncio.gather(*posts)
    assert sorted(response.status_code for response in responses) == [200, 200, 503]
    assert (await client.post("/yolo/prediction", content=bottle, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/predict%0A", "/yolo/prediction%0A", "/predict/", "/schema.json", "/", "/nowhere"])
async def test_bentomls_own_handlers_cannot_be_reached(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.post(path, data={"image": "http://127.0.0.1:1/a.jpg"}), 404)


async def test_other_paths_are_forwarded_to_bentoml(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).text == "alive"
    assert_problem(await client.get("/nothing"), 404, "/nothing")
    for path, status in (("/schema.json", 500), ("/", 500), ("/healthz", 503)):
        response = await client.get(path)
        assert_problem(response, status)
        assert "secret" not in response.text


async def test_a_scrape(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.text == "requests_total 1.0\n"
    assert response.headers["content-type"] == CONTENT_TYPE_LATEST


async def test_a_page_of_bentoml_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/livez")).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "script-src" not in policy  # so that inline scripts do not run, either


async def test_before_the_start_nothing_is_ready(client: httpx.AsyncClient, rest: RestApp) -> None:
    rest.server = None
    assert_problem(await client.get("/readyz"), 503, "starting")
    assert_problem(await client.post("/predict", json=TEXT), 503, "starting")
    response = await client.get("/v2/health/ready")
    assert response.status_code == 503
    assert response.json() == {"error": "The service is starting. Try again in a moment."}


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v2/nowhere", 404, "nothing at /v2/nowhere"),
        ("POST", "/v2/models/yolo", 405, "Use GET, HEAD"),
        ("GET", "/v2/models/yolo/infer", 405, "Use POST"),
        ("GET", "/v2/models/nobody", 404, "no model"),
        ("POST", "/v2/models/kcbert/infer", 400, "not valid JSON"),
    ],
)
async def test_errors_of_open_inference_have_its_form(
    client: httpx.AsyncClient, method: str, path: str, status: int, words: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]


async def test_head_is_answered_where_get_is(client: httpx.AsyncClient) -> None:
    for path in ("/readyz", "/v2/health/live", "/livez"):
        assert (await client.head(path)).status_code == 200


async def test_a_command_without_a_sidecar(client: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer secret"}
    assert_problem(await client.post("/v1/models/yolo/pin", headers=headers), 503, "No sidecar answers")
    assert_problem(await client.post("/v1/models/bert/pin", headers=headers), 404, "no model")
    rejected = await client.get("/v1/models/yolo/pin", headers=headers)
    assert_problem(rejected, 405)
    assert rejected.headers["allow"] == "POST"


async def test_the_details_of_the_models_are_for_administrators(client: httpx.AsyncClient, rest: RestApp) -> None:
    rest.server = server(DataPlane([], FakeStatus(["yolo"], {"v1": "available"})))
    [public] = (await client.get("/v1/models")).json()["models"]
    assert {"pid", "host", "name", "errors"}.isdisjoint(public["workers"][0])
    answer = await client.get("/v1/models", headers={"Authorization": "Bearer secret"})
    [full] = answer.json()["models"]
    assert (full["workers"][0]["pid"], full["workers"][0]["host"]) == (1, "here")
    assert_problem(await client.get("/v1/models", headers={"Authorization": "Bearer guess"}), 401, "Bearer")


async def test_readiness(client: httpx.AsyncClient, rest: RestApp) -> None:
    dataplane = plane()
    rest.server = server(dataplane)
    assert (await client.get("/readyz")).status_code == 200
    dataplane.draining = True
    assert_problem(await client.get("/readyz"), 503, "shutting down")


async def test_while_draining_requests_are_answered_and_connections_closed(client: httpx.AsyncClient, rest: RestApp) -> None:
    dataplane = plane()
    rest.server = server(dataplane)
    assert "connection" not in (await client.post("/predict", json=TEXT)).headers
    dataplane.draining = True
    response = await client.post("/predict", json=TEXT)
    assert (response.status_code, response.headers["connection"]) == (200, "close")


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3_4", True), ("a b", False), ("", False), ("a" * 129, False)])
async def test_request_ids(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    response = await client.post("/predict", json=TEXT, headers={"X-Request-Id": given})
    assert (response.headers["x-request-id"] == given) is kept
    problem = await client.post("/predict", json={}, headers={"X-Request-Id": given})
    assert problem.headers["x-request-id"] == problem.json()["request_id"]


async def test_the_text_of_an_unexpected_error_is_not_shown(client: httpx.AsyncClient, rest: RestApp) -> None:
    runner = FakeRunner(classified(), failures=[RuntimeError("secret")])
    rest.server = server(plane(sentiment=runner))
    response = await client.post("/predict", json=TEXT)
    assert_problem(response, 500)
    assert "secret" not in response.text


async def test_a_request_is_logged_without_its_payload(client: httpx.AsyncClient) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    await client.post("/predict", json=TEXT, headers={"X-Request-Id": "id-1"})
    logger.remove(sink)
    [line] = [line for line in lines if "/predict" in line]
    assert line.startswith("POST /predict 200 in ")
    assert line.endswith("by fake v7 | request id-1\n")
    assert TEXT["text"] not in line


async def test_a_client_that_disconnects_costs_no_forward_pass(rest: RestApp) -> None:
    runner = FakeRunner(classified(), seconds=0.05)
    rest.server = server(plane(sentiment=runner))
    sent: list[Message] = []
    app = rest.wrap(Router())
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}

    async def call(*, disconnects: bool) -> None:
        messages = [{"type": "http.request", "body": json.dumps(TEXT).encode()}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.sleep(0 if disconnects else 60)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)

    await asyncio.gather(call(disconnects=False), call(disconnects=True), call(disconnects=True))
    assert [len(batch) for batch in runner.batches] == [1]
    # Those that disconnected are answered too: the metrics count these answers.
    assert sorted(message["status"] for message in sent if message["type"] == "http.response.start") == [200, 499, 499]


def assert_problem(response: httpx.Response, status: int, words: str = "") -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert words in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1


async def test_an_answer_has_a_ticket_in_a_header_where_feedback_is_configured(
    client: httpx.AsyncClient, rest: RestApp
) -> None:
    without = await client.post("/predict", json=TEXT)
    assert "X-Feedback-Ticket" not in without.headers
    rest.server = server(plane(), Feedback(ticket_issuer("k" * 32, 60)))
    answer = await client.post("/predict", json=TEXT, headers={"X-Request-Id": "my-request"})
    assert answer.content == without.content
    ticket = TicketReader(["k" * 32]).read(answer.headers["X-Feedback-Ticket"])
    assert (ticket.model, ticket.version, ticket.labels) == ("fake", "v7", [("긍정", 0.75)])
    assert ticket.request_id == answer.headers["X-Request-Id"] == "my-request"
    assert "X-Feedback-Ticket" not in (await client.post("/predict", json={})).headers


async def test_feedback_goes_to_the_sidecar(client: httpx.AsyncClient) -> None:
    answer = await client.post("/feedback", json={"ticket": "x", "label": "긍정"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "No sidecar answers" in answer.json()["detail"]


async def test_a_text_that_no_model_can_read_is_counted(client: httpx.AsyncClient) -> None:
    def counted() -> float:
        return value("bunriwiki_prediction_failures_total", model="sentiment", reason="invalid_input")

    before = counted()
    for text in (" ", "a" * 10_001):
        assert (await client.post("/predict", json={"text": text})).status_code in (413, 422)
    assert counted() == before + 2


async def test_a_rejection_after_the_end_of_a_body_leaves_the_connection_open(client: httpx.AsyncClient) -> None:
    response = await client.post("/predict", json={"text": "a" * 10_001})
    assert response.status_code == 413
    assert "connection" not in response.headers


async def test_a_prediction_is_counted_once_with_its_request_before_it_is_sent(rest: RestApp) -> None:
    body = b'{"text": "a"}'

    async def receive() -> Message:
        if sent_by_client:
            return sent_by_client.pop()
        await asyncio.sleep(60)
        raise AssertionError

    async def send(_: Message) -> None:
        seen.append(counted())

    def counted() -> tuple[float, ...]:
        inputs = value("bunriwiki_predictions_total", model="kcbert", version="v7")
        phases = [value("bunriwiki_phase_duration_seconds_count", model="kcbert", phase=one) for one in ("read", "encode")]
        requests = value("http_requests_total", method="POST", path="/kcbert/prediction", status="200", protocol="rest")
        return requests, inputs, *phases

    sent_by_client: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    seen: list[tuple[float, ...]] = []
    before = counted()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http", "method": "POST", "path": "/kcbert/prediction", "headers": headers, "query_string": b"",
        "client": ("192.0.2.1", 80),
    }  # fmt: skip
    await rest.wrap(Router([]))(scope, receive, send)
    assert seen == [tuple(number + 1 for number in before)] * 2


async def test_an_answer_that_cannot_be_sent_is_counted_once(rest: RestApp) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(_: Message) -> None:
        raise OSError("the connection is gone")

    def counted() -> float:
        return value("http_requests_total", method="GET", path="/v2", protocol="rest")

    before = counted()
    scope = {"type": "http", "method": "GET", "path": "/v2", "headers": [], "query_string": b"", "client": ("192.0.2.1", 80)}
    with pytest.raises(OSError, match="gone"):
        await rest.wrap(Router([]))(scope, receive, send)
    assert counted() == before + 1
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
