from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tokens import TokenGate

RIGHT = "Bearer secret"

pytestmark = pytest.mark.anyio


def sidecar(answer: Callable[[httpx.Request], httpx.Response]) -> Sidecar:
    return Sidecar("http://sidecar/", TokenGate(["secret"]), 7, httpx.MockTransport(answer))


def rejecting(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def syncing(status: str) -> Callable[[httpx.Request], httpx.Response]:
    outcome = {"model": "yolo", "status": status, "version": "v2", "reason": "it is slow"}
    return lambda _: httpx.Response(200, json={"sync_requested": True, "outcomes": {"yolo": outcome}})


async def test_without_a_sidecar_the_answer_says_so() -> None:
    with pytest.raises(RequestError, match="has no sidecar: set BUNRIWIKI_SYNC_PORT") as caught:
        await Sidecar(None, TokenGate(["secret"]), 7).reload(RIGHT, b"")
    assert caught.value.status == 503


async def test_a_reload_is_a_sync_that_is_waited_for_by_default() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(202, json={"sync_requested": True})

    client = sidecar(answer)
    response = await client.reload(RIGHT, b"")
    await client.reload(RIGHT, b'{"models": ["yolo"], "wait": false}')
    await client.close()
    assert (response.status, json.loads(response.body)) == (202, {"sync_requested": True})
    assert [str(request.url) for request in requests] == ["http://sidecar/sync"] * 2
    assert requests[0].headers["authorization"] == RIGHT
    assert json.loads(requests[0].content) == {"wait": True, "timeout": 7}
    assert json.loads(requests[1].content) == {"models": ["yolo"], "wait": False, "timeout": 7}


async def test_a_command_and_its_response_are_forwarded_unchanged() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        problem = httpx.Response(409, json={"detail": "There is no earlier version."})
        return (
            problem
            if request.content == b'{"version": "v1"}' and request.url.path == "/models/yolo/rollback"
            else httpx.Response(500)
        )

    response = await sidecar(answer).command(RIGHT, "yolo", "rollback", b'{"version": "v1"}')
    assert (response.status, json.loads(response.body)) == (409, {"detail": "There is no earlier version."})


@pytest.mark.parametrize(
    ("error", "status"),
    [(httpx.ConnectError("refused"), 503), (httpx.ReadError("gone"), 503), (httpx.ReadTimeout("late"), 504)],
)
async def test_a_sidecar_that_does_not_answer(error: Exception, status: int) -> None:
    with pytest.raises(RequestError) as rejected:
        await sidecar(rejecting(error)).reload(RIGHT, b"")
    assert rejected.value.status == status


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 422)])
async def test_a_body_that_is_no_object_is_not_forwarded(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as rejected:
        await sidecar(rejecting(AssertionError())).reload(RIGHT, body)
    assert rejected.value.status == status


@pytest.mark.parametrize("status", ["promoted", "unchanged"])
async def test_a_model_is_loaded_when_its_newest_version_serves(status: str) -> None:
    await sidecar(syncing(status)).load(RIGHT, "yolo")


async def test_a_version_that_was_rejected_is_not_loaded() -> None:
    with pytest.raises(RequestError, match=r"yolo was not loaded\. rejected: it is slow\."):
        await sidecar(syncing("rejected")).load(RIGHT, "yolo")
    late = httpx.Response(504, json={"detail": "The sync goes on."})
    with pytest.raises(RequestError, match="The sync goes on"):
        await sidecar(lambda _: late).load(RIGHT, "yolo")


async def test_no_model_is_unloaded() -> None:
    with pytest.raises(RequestError, match="every model serves at all times"):
        await sidecar(rejecting(AssertionError())).unload(RIGHT, "yolo")


async def test_nothing_is_forwarded_without_the_right_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.web.tokens.DELAY_SECONDS", 0)
    client = sidecar(rejecting(AssertionError()))
    for call in (
        client.reload("Bearer x", b""),
        client.command(None, "yolo", "pin", b""),
        client.load("", "yolo"),
        client.unload("", "yolo"),
    ):
        with pytest.raises(RequestError) as rejected:
            await call
        assert rejected.value.status == 401


@pytest.mark.parametrize("authorization", [None, RIGHT, "Bearer of-a-rater"])
async def test_feedback_is_forwarded_with_its_token_if_it_has_one(authorization: str | None) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(201, json={"correct": True, "known": authorization is not None})

    client = sidecar(answer)
    response = await client.feedback(authorization, b'{"ticket": "x"}')
    await client.close()
    assert (response.status, json.loads(response.body)["correct"]) == (201, True)
    [request] = requests
    assert (str(request.url), request.content) == ("http://sidecar/feedback", b'{"ticket": "x"}')
    assert request.headers.get("authorization") == authorization
