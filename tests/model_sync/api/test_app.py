from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.types import Message

from bunriwiki.model_store.sync_state import SyncState
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.web.bodies import BodyReader, ReadLimits
from model_sync.admin.commands import Commands
from model_sync.api import app as api
from model_sync.triggers.mlflow_webhooks import WebhookVerifier
from tests.model_sync.triggers.fakes import FakeSyncRequests, logged

pytestmark = pytest.mark.anyio

SECRET = "a secret"  # noqa: S105
OPERATOR = {"Authorization": "Bearer one"}


class Known(BaseModel):
    """A state."""

    models: dict[str, str] = {"yolo": "v3"}


class Sidecar:
    """What the API needs of a sidecar."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self.syncs = FakeSyncRequests("promoted", hold=True)
        self.state: BaseModel | dict[str, Any] | None = Known()
        self.metrics = CollectorRegistry()
        Counter("bunriwiki_things", "Things.", registry=self.metrics).inc(3)

    def read_state(self) -> BaseModel | dict[str, Any]:
        assert self.state is not None
        return self.state

    def app(self, *, tokens: tuple[str, ...] = ("", "one", "둘"), secret: str | None = SECRET) -> Starlette:
        return api.make_app(
            self.syncs,
            self.read_state,
            admin_tokens=tokens,
            verifier=WebhookVerifier(secret) if secret else None,
            webhook_names={"ensemble-sentiment-model"},
            commands=Commands(self.writer),
            metrics=self.metrics,
        )


@pytest.fixture
def sidecar(writer: StoreWriter) -> Sidecar:
    return Sidecar(writer)


def talk(app: Starlette) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.7", 5))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(sidecar: Sidecar) -> AsyncIterator[httpx.AsyncClient]:
    async with talk(sidecar.app()) as client:
        yield client


def assert_problem(response: httpx.Response, status: int, words: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == status
    assert words in problem["detail"]


def event(name: str = "ensemble-sentiment-model", action: str = "created") -> str:
    return json.dumps({"entity": "model_version_alias", "action": action, "data": {"name": name, "alias": "champion"}})


def deliver(client: httpx.AsyncClient, body: str, *, secret: str = SECRET, delivery: str = "d-1") -> Awaitable[httpx.Response]:
    at = str(int(time.time()))
    digest = hmac.digest(secret.encode(), f"{delivery}.{at}.{body}".encode(), "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"  # as MLflow makes it: `test_mlflow_webhooks.py`
    headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": at, "X-MLflow-Signature": signature}
    return client.post("/webhooks/mlflow", content=body.encode(), headers=headers)


async def test_it_lives(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("state", [Known(), {"models": {"yolo": "v3"}}])
async def test_the_state_is_what_the_sidecar_says(client: httpx.AsyncClient, sidecar: Sidecar, state: BaseModel) -> None:
    sidecar.state = state
    assert (await client.get("/state")).json() == {"models": {"yolo": "v3"}}


async def test_the_details_of_the_state_need_a_token(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    state = SyncState(since=datetime.now(UTC), models={})
    sidecar.state = state
    assert (await client.get("/state", headers=OPERATOR)).json()["pid"] == state.pid
    assert (await client.get("/state")).json()["pid"] == 0
    assert_problem(await client.get("/state", headers={"Authorization": "Bearer wrong"}), 401)


async def test_an_unexpected_error_is_a_problem_without_its_text(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    sidecar.state = None
    assert_problem(await client.get("/state"), 500, "Something went wrong here")


async def test_an_unknown_path_and_a_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/nothing"), 404, "/nothing")
    rejected = await client.get("/sync")
    assert_problem(rejected, 405, "Use POST")
    assert rejected.headers["allow"] == "POST"


async def test_a_webhook_about_our_model_leads_to_a_sync_and_does_not_wait(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    response = await deliver(client, event())
    assert (response.status_code, response.json()) == (202, {"sync_requested": True})
    assert sidecar.syncs.calls == [("webhook", None, False)]


@pytest.mark.parametrize("body", [event("another"), event(action="updated"), "no JSON"])
async def test_a_webhook_about_anything_else_leads_to_none(client: httpx.AsyncClient, sidecar: Sidecar, body: str) -> None:
    response = await deliver(client, body)
    assert (response.status_code, response.json()) == (202, {"sync_requested": False})
    assert sidecar.syncs.calls == []


async def test_a_forged_webhook_is_rejected_and_logged(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    with logged() as lines:
        assert_problem(await deliver(client, event(), secret="another"), 403, "The signature is wrong")
    [line] = lines
    assert line.startswith("WARNING A webhook from 192.0.2.7 is rejected with 403")
    assert sidecar.syncs.calls == []


async def test_a_repeated_webhook_leads_to_one_sync(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    await deliver(client, event())
    assert_problem(await deliver(client, event()), 409, "accepted before")
    assert len(sidecar.syncs.calls) == 1


async def test_without_a_secret_webhooks_are_closed(sidecar: Sidecar) -> None:
    async with talk(sidecar.app(secret=None)) as client:
        assert_problem(await deliver(client, event()), 403, "BUNRIWIKI_WEBHOOK_SECRET is not set")


async def chunks(size: int, number: int, seconds: float = 0) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b" " * size
        await asyncio.sleep(seconds)


async def test_a_large_body_is_rejected_announced_or_not(client: httpx.AsyncClient) -> None:
    limit = 64 * 1024
    assert_problem(await client.post("/webhooks/mlflow", content=b" " * (limit + 1)), 413)
    assert_problem(await client.post("/webhooks/mlflow", content=chunks(limit // 8 + 1, 8)), 413)
    assert_problem(await client.post("/sync", content=chunks(limit // 8 + 1, 8), headers=OPERATOR), 413)
    assert_problem(await client.post("/webhooks/mlflow", content=chunks(limit // 8, 8)), 400, "X-MLflow-Delivery-Id")


async def test_a_body_of_many_values_is_rejected_before_it_is_parsed(client: httpx.AsyncClient) -> None:
    for body in (b"[" * 60_000, b'{"models": [' + b'"a",' * 10_000 + b'"a"]}'):
        assert_problem(await client.post("/sync", content=body, headers=OPERATOR), 413, "more than 1000 values")


async def test_a_slow_body_is_rejected(sidecar: Sidecar) -> None:
    app = sidecar.app()
    app.state.bodies = BodyReader(ReadLimits(seconds=0.05))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert_problem(await client.post("/webhooks/mlflow", content=chunks(1, 50, 0.01)), 408)


async def test_a_body_that_is_cut_off_is_no_error_of_ours(sidecar: Sidecar) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/webhooks/mlflow", "query_string": b"", "headers": []}
    await sidecar.app()(scope, receive, send)
    assert sent[0]["status"] == 400


@pytest.mark.parametrize(
    ("body", "models", "force"),
    [
        (None, None, False),
        ({}, None, False),
        ({"models": ["yolo", "kcbert"]}, ["yolo", "kcbert"], False),
        ({"force": True, "models": None}, None, True),
    ],
)
async def test_an_operator_requests_a_sync(
    client: httpx.AsyncClient, sidecar: Sidecar, body: object, models: list[str] | None, force: bool
) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    response = await client.post("/sync", content=content, headers=OPERATOR)
    assert (response.status_code, response.json()) == (202, {"sync_requested": True})
    assert sidecar.syncs.calls == [("operator", models, force)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "not valid JSON"),
        ("[]", 422, "the body: "),
        ('{"models": ["yolo", "resnet"]}', 422, "'resnet'. The models are yolo, kcbert, sentiment."),
        ('{"models": []}', 422, "models: "),
        ('{"models": "yolo"}', 422, "models: "),
        ('{"force": "yes"}', 422, "force: "),
        ('{"timeout": 0}', 422, "timeout: "),
        ('{"timeout": 1e99}', 422, "timeout: "),
        ('{"timeout": NaN}', 422, "timeout: "),
        ('{"model": "yolo"}', 422, "model: "),
    ],
)
async def test_mistakes_in_a_sync_request(
    client: httpx.AsyncClient, sidecar: Sidecar, body: str, status: int, words: str
) -> None:
    assert_problem(await client.post("/sync", content=body, headers=OPERATOR), status, words)
    assert sidecar.syncs.calls == []


async def test_a_client_that_waits_gets_the_outcomes_and_blocks_nobody(client: httpx.AsyncClient, sidecar: Sidecar) -> None:
    started = time.monotonic()
    waiting = asyncio.create_task(client.post("/sync", json={"wait": True, "timeout": 30}, headers=OPERATOR))
    while not sidecar.syncs.pending:
        await asyncio.sleep(0.01)
    assert (await client.get("/livez")).status_code == 200
    assert time.monotonic() - started < 10
    assert not waiting.done()
    sidecar.syncs.pending[0].end()
    response = await waiting
    assert response.status_code == 200
    assert response.json()["outcomes"] == {
        model: {"model": model, "status": status, "version": None, "reason": None, "retry_seconds": None}
        for model, status in (("yolo", "promoted"), ("kcbert", "unchanged"), ("sentiment", "unchanged"))
    }


async def test_a_sync_that_takes_too_long_is_a_problem(client: httpx.AsyncClient) -> None:
    response = await client.post("/sync", json={"wait": True, "timeout": 0.05}, headers=OPERATOR)
    assert_problem(response, 504, "within 0.05 s and goes on")


ADMINISTRATION = [
    ("POST", "/sync"), ("POST", "/models/yolo/rollback"), ("POST", "/models/yolo/pin"), ("POST", "/models/yolo/unpin"),
    ("POST", "/quarantine"), ("DELETE", "/quarantine/yolo/v1"), ("POST", "/gc"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ADMINISTRATION)
async def test_with_no_token_set_administration_is_closed(sidecar: Sidecar, method: str, path: str) -> None:
    async with talk(sidecar.app(tokens=("",))) as client:
        assert_problem(await client.request(method, path, headers={"Authorization": "Bearer "}), 403, "BUNRIWIKI_ADMIN_TOKEN")


@pytest.mark.parametrize(("method", "path"), ADMINISTRATION)
async def test_a_wrong_token_is_rejected_after_a_delay_and_logged(
    client: httpx.AsyncClient, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    monkeypatch.setattr("bunriwiki.web.tokens.DELAY_SECONDS", 0.05)
    started = time.monotonic()
    with logged() as lines:
        response = await client.request(method, path, headers={"Authorization": "Bearer two"})
    assert time.monotonic() - started >= 0.05
    assert_problem(response, 401, "Authorization: Bearer <token>")
    assert response.headers["www-authenticate"] == "Bearer"
    assert lines == [f"WARNING Rejected {method} '{path}' from 192.0.2.7: no valid admin token\n"]
    assert sidecar.syncs.calls == []
    assert list(sidecar.writer.history.read()) == []


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (b"", 401), (b"Bearer", 401), (b"Bearer ", 401), (b"Basic one", 401), (b"Bearer on", 401), (b"Bearer \xff", 401),
        (b"Bearer one", 202), (b"bearer  one", 202), ("Bearer 둘".encode(), 202),
    ],
)  # fmt: skip
async def test_tokens(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, authorization: bytes, status: int) -> None:
    monkeypatch.setattr("bunriwiki.web.tokens.DELAY_SECONDS", 0.0)
    assert (await client.post("/sync", headers=[(b"Authorization", authorization)])).status_code == status


async def test_many_wrong_tokens_are_rejected_at_once_and_lock_nobody_out(client: httpx.AsyncClient) -> None:
    guesses = [asyncio.create_task(client.post("/sync", headers={"Authorization": f"Bearer {n}"})) for n in range(32)]
    await asyncio.sleep(0.2)
    assert not any(guess.done() for guess in guesses)
    rejected = await client.post("/sync", headers={"Authorization": "Bearer wrong"})
    assert_problem(rejected, 429, "Wait a moment")
    assert (await client.post("/sync", headers=OPERATOR)).status_code == 202
    assert {(await guess).status_code for guess in guesses} == {401}
    assert (await client.post("/sync")).status_code == 401


async def test_the_metrics_are_open_and_in_the_format_that_is_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "bunriwiki_things_total 3.0" in answer.text
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
