from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message

from bunriwiki.protocols.rest.responses import Response, write
from bunriwiki.web.whole_response import EXTENSIONS, WHOLE_RESPONSE

pytestmark = pytest.mark.anyio


async def messages(response: Response, scope: dict[str, Any], *, close: bool = False) -> list[Message]:
    found: list[Message] = []

    async def send(message: Message) -> None:
        found.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await write(response, "a-request", scope, receive, send, close=close)
    return found


async def test_a_server_that_takes_whole_responses_gets_one_message() -> None:
    [message] = await messages(Response(b"{}", headers={"X-A": "b"}), {"extensions": EXTENSIONS}, close=True)
    headers = {"X-A": "b", "X-Request-Id": "a-request", "Content-Type": "application/json"}
    assert message == {"type": WHOLE_RESPONSE, "status": 200, "headers": headers, "body": b"{}", "close": True}


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}])
async def test_another_server_gets_the_usual_messages(scope: dict[str, Any]) -> None:
    start, body = await messages(Response(b"{}", headers={"X-A": "b"}), scope, close=True)
    assert start["headers"] == [
        (b"x-a", b"b"), (b"x-request-id", b"a-request"), (b"content-type", b"application/json"), (b"connection", b"close"),
        (b"content-length", b"2"),
    ]  # fmt: skip
    assert body == {"type": "http.response.body", "body": b"{}", "more_body": False}


async def test_a_rejected_body_is_read_on_after_the_answer() -> None:
    rejected = Response(b"{}", 413, headers={"Connection": "close"})
    found = await messages(rejected, {"extensions": EXTENSIONS})
    assert [message["type"] for message in found] == ["http.response.start", *["http.response.body"] * 2]
