from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from bunriwiki.model_store.generation import Canary, ModelGeneration, Target
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.public import NOT_SHOWN
from bunriwiki.model_store.status import StoreStatus
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.web.tokens import token_id
from model_sync.admin.commands import Commands
from model_sync.admin.image_rollout_commands import COMMANDS
from model_sync.api.app import make_app
from model_sync.rollout.wishes import Wishes
from tests.model_sync.api.test_app import OPERATOR, Known, assert_problem
from tests.model_sync.triggers.fakes import FakeSyncRequests

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_token_delay")]


@pytest.fixture
def syncs() -> FakeSyncRequests:
    return FakeSyncRequests()


@pytest.fixture
async def client(
    writer: StoreWriter, make_version: Callable[..., Path], syncs: FakeSyncRequests
) -> AsyncIterator[httpx.AsyncClient]:
    """Of a sidecar in whose store v1 and v2 of yolo served, one after the other."""
    for version in ("v1", "v2"):
        writer.publish(make_version("yolo", version), "a test", "poll")
        promote(writer, "yolo", version, "a test", "poll")
    app = make_app(
        syncs,
        Known,
        admin_tokens=("one",),
        verifier=None,
        webhook_names=(),
        commands=Commands(writer, syncs),
        metrics=CollectorRegistry(),
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=OPERATOR) as client:
        yield client


def now(writer: StoreWriter) -> ModelGeneration:
    return writer.generations().of("yolo")


def serving(writer: StoreWriter) -> str | None:
    found = now(writer).serving
    return found.version if found else None


@pytest.mark.parametrize("body", [{}, {"json": {}}, {"json": {"version": "v1"}}, {"json": {"version": None}}])
async def test_a_rollback(client: httpx.AsyncClient, writer: StoreWriter, body: dict[str, Any]) -> None:
    response = await client.post("/models/yolo/rollback", **body)
    assert response.status_code == 200
    found = response.json()
    assert found.pop("seconds") < 5
    assert found == {"model": "yolo", "from": "v2", "to": "v1", "workers": 0}
    assert (serving(writer), now(writer).held) == ("v1", ("v2",))


async def test_the_history_says_which_token_acted_and_not_the_token(client: httpx.AsyncClient, writer: StoreWriter) -> None:
    assert (await client.post("/models/yolo/rollback")).status_code == 200
    assert (await client.post("/models/yolo/unpin")).status_code == 200
    events = list(writer.history.read("yolo"))
    acted = [event for event in events if event.by == "operator" and event.token]
    assert {event.token for event in acted} == {token_id("one")}
    assert {event.kind for event in acted} >= {"held", "activated", "unpinned"}
    writer.record("paused", "yolo", by="poll")
    *_, outside = writer.history.read("yolo")
    assert outside.token is None


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/models/resnet/rollback", "", 404, "The models are yolo, kcbert, sentiment"),
        ("/models/%2E%2E/rollback", "", 404, ""),
        ("/models/yolo/rollback", '{"version": "v9"}', 404, "yolo v9 is not on disk"),
        ("/models/yolo/rollback", '{"version": "../v1"}', 422, "is no version"),
        ("/models/yolo/rollback", '{"version": "v1\\n"}', 422, "is no version"),
        ("/models/yolo/rollback", '{"version": "v2"}', 409, "serves already"),
        ("/models/kcbert/rollback", "", 409, "its fallback version"),
        ("/models/yolo/rollback", '{"to": "v1"}', 422, "to: "),
        ("/models/yolo/rollback", '{"version": 1}', 422, "version: "),
        ("/models/yolo/rollback", "{", 400, 'an object like {"version": "v1"}'),
        ("/models/yolo/pin", '{"version": "v9"}', 404, "not on disk"),
        ("/models/resnet/unpin", "", 404, "no model 'resnet'"),
        ("/models/resnet/cancel", "", 404, "no model 'resnet'"),
        ("/models/yolo/pause", "", 409, "no canary"),
        ("/models/yolo/promote", "", 409, "no canary"),
        ("/models/yolo/abort", "", 409, "No promotion"),
        ("/models/yolo/cancel", "", 409, "No import"),
        ("/quarantine", '{"model": "yolo", "version": "v2", "reason": "slow"}', 409, "roll yolo back first"),
        ("/quarantine", '{"model": "yolo", "version": "v9", "reason": "slow"}', 404, "not on disk"),
        ("/quarantine", '{"model": "..", "version": "v1", "reason": "slow"}', 404, "no model"),
        ("/quarantine", '{"model": "yolo", "version": "..", "reason": "slow"}', 422, "no version"),
        ("/quarantine", '{"model": "yolo", "version": "v1", "reason": ""}', 422, "reason: "),
        ("/quarantine", '{"model": "yolo", "version": "v1"}', 422, "reason: "),
        ("/quarantine", "", 422, "model: "),
    ],
)
async def test_a_rejected_command_says_why_and_changes_nothing(
    client: httpx.AsyncClient, writer: StoreWriter, path: str, body: str, status: int, words: str
) -> None:
    before = writer.generations()
    assert_problem(await client.post(path, content=body), status, words)
    assert (writer.generations(), writer.quarantine.all()) == (before, [])


async def test_a_full_disk_is_reported(client: httpx.AsyncClient, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "prepare", full)
    assert_problem(await client.post("/models/yolo/rollback"), 500, "No space left on device")


async def test_a_pin_and_its_end(client: httpx.AsyncClient, writer: StoreWriter, syncs: FakeSyncRequests) -> None:
    found = (await client.post("/models/yolo/pin", json={"version": "v1"})).json()
    assert (found["version"], now(writer).pinned, serving(writer)) == ("v1", True, "v1")
    assert (await client.post("/models/yolo/unpin")).json() == {"model": "yolo", "was_pinned": True, "released": []}
    assert not now(writer).pinned
    assert syncs.calls == [("operator", ["yolo"], False)]


@pytest.mark.parametrize("command", ["unpin", "pause", "resume", "promote", "abort", "cancel"])
async def test_a_command_about_a_model_needs_a_token(client: httpx.AsyncClient, command: str) -> None:
    assert_problem(await client.post(f"/models/yolo/{command}", headers={"Authorization": "Bearer two"}), 401)


async def test_a_canary_is_paused_resumed_and_aborted(client: httpx.AsyncClient, writer: StoreWriter) -> None:
    target = Target(version="v1", since=datetime.now(UTC), source="a test", by="poll")
    writer.change(lambda old: old.prepare("yolo", target).start_canary("yolo", Canary(share=0.1)))
    answers = [(await client.post(f"/models/yolo/{command}")).json() for command in ("pause", "resume", "abort")]
    named = {"model": "yolo", "version": "v1"}
    assert answers == [named, {**named, "was_paused": True}, named]
    assert (now(writer).held, now(writer).canary) == (("v1",), None)


async def test_a_version_is_put_in_quarantine_and_released(client: httpx.AsyncClient, writer: StoreWriter) -> None:
    response = await client.post("/quarantine", json={"model": "yolo", "version": "v1", "reason": "it is slow"})
    assert (response.status_code, response.json()["reason"]) == (201, "it is slow")
    assert_problem(await client.post("/models/yolo/rollback", json={"version": "v1"}), 409, "Release it first")
    released = await client.delete("/quarantine/yolo/v1")
    assert (released.status_code, released.content) == (204, b"")
    assert writer.quarantine.all() == []
    assert_problem(await client.delete("/quarantine/yolo/v1"), 404, "yolo v1 is not in quarantine")
    assert [event.by for event in writer.history.read("yolo") if event.kind in ("quarantined", "released")] == ["operator"] * 2


@pytest.mark.parametrize(
    "place", ["resnet/v1", "%2E%2E/generation", "yolo/%2E%2E", "yolo/..%2Fx", "yolo/V1", "yolo/v%0A", "yolo/"]
)
async def test_an_invalid_version_does_not_reach_the_store(
    client: httpx.AsyncClient, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    released: list[object] = []
    monkeypatch.setattr(writer, "release", lambda *names: released.append(names))
    assert_problem(await client.delete(f"/quarantine/{place}"), 404)
    assert released == []


async def test_garbage_is_collected(client: httpx.AsyncClient) -> None:
    assert (await client.post("/gc")).json() == {"removed": []}


async def test_reading_needs_no_token(client: httpx.AsyncClient) -> None:
    del client.headers["Authorization"]
    status = StoreStatus.model_validate((await client.get("/status")).json())
    assert status.models[0].serving
    assert status.models[0].serving.version == "v2"
    assert status.models[0].serving.source == NOT_SHOWN
    events = (await client.get("/history", params={"model": "yolo", "last": "2"})).json()["events"]
    assert [(event["kind"], event["version"]) for event in events] == [("published", "v2"), ("activated", "v2")]
    assert {event["source"] for event in events} == {None}
    assert len((await client.get("/history")).json()["events"]) == 4


async def test_the_details_of_the_status_need_a_token(client: httpx.AsyncClient) -> None:
    status = StoreStatus.model_validate((await client.get("/status")).json())
    assert status.models[0].serving
    assert status.models[0].serving.source == "a test"
    assert_problem(await client.get("/status", headers={"Authorization": "Bearer wrong"}), 401)


async def test_the_details_of_the_history_need_a_token(client: httpx.AsyncClient) -> None:
    quarantine = {"model": "yolo", "version": "v1", "reason": "/srv/models is full"}
    assert (await client.post("/quarantine", json=quarantine)).status_code == 201
    [shown] = (await client.get("/history", params={"last": "1"})).json()["events"]
    assert (shown["reason"], shown["token"]) == ("/srv/models is full", token_id("one"))
    assert_problem(await client.get("/history", headers={"Authorization": "Bearer wrong"}), 401)
    del client.headers["Authorization"]
    [shown] = (await client.get("/history", params={"last": "1"})).json()["events"]
    assert (shown["kind"], shown["version"], shown["reason"], shown["token"]) == ("quarantined", "v1", None, None)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("model=resnet", 404, "no model"), ("model=", 404, "no model"), ("last=0", 422, "last: "), ("last=x", 422, "last: "),
        ("last=10001", 422, "last: "), ("modle=yolo", 422, "modle: "),
    ],
)  # fmt: skip
async def test_mistakes_in_a_query(client: httpx.AsyncClient, query: str, status: int, words: str) -> None:
    assert_problem(await client.get(f"/history?{query}"), status, words)


async def test_the_rollout(client: httpx.AsyncClient, writer: StoreWriter) -> None:
    assert (await client.get("/rollout", headers={"Authorization": ""})).status_code == 401
    assert (await client.get("/rollout")).json()["rollout"] is None
    response = await client.post("/rollout/start")
    assert response.status_code == 200
    assert Wishes.read(writer.layout.rollout_wishes).start == 1
    *_, event = writer.history.read()
    assert (event.kind, event.reason, event.token) == ("rollout_command", "start", token_id("one"))
    assert_problem(await client.post("/rollout/cancel"), 409)
    assert_problem(await client.post("/rollout/explode"), 404)


async def test_commands_about_the_rollout_require_a_token(client: httpx.AsyncClient, writer: StoreWriter) -> None:
    for command in COMMANDS:
        assert_problem(await client.post(f"/rollout/{command}", headers={"Authorization": "Bearer two"}), 401)
    assert Wishes.read(writer.layout.rollout_wishes) == Wishes()
