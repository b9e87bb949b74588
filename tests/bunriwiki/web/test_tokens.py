from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from loguru import logger

from bunriwiki.web.clients import CLIENT
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tokens import MAX_DELAYED, TokenGate, token_id

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.web.tokens.DELAY_SECONDS", 0.05)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    yield lines
    logger.remove(sink)


async def status(gate: TokenGate, authorization: str | None) -> int:
    try:
        await gate.check(authorization, "a test")
    except RequestError as error:
        return error.status
    return 200


@pytest.mark.parametrize("tokens", [[], [""]])
async def test_with_no_token_set_it_is_closed(tokens: list[str]) -> None:
    assert await status(TokenGate(tokens), "Bearer ") == 403


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer wrong", 401), ("Basic one", 401),
        ("Bearer one", 200), ("bearer two", 200), ("Bearer 가", 401), ("Bearer \xea\xb0\x80", 200),
    ],
)  # fmt: skip
async def test_tokens(authorization: str | None, expected: int) -> None:
    assert await status(TokenGate(["one", "", "two", "가"]), authorization) == expected


async def test_wrong_tokens_are_delayed_and_the_right_token_is_not() -> None:
    gate = TokenGate(["one"])
    begun = time.monotonic()
    wrong = [asyncio.create_task(status(gate, "Bearer wrong")) for _ in range(40)]
    await asyncio.sleep(0)
    assert await status(gate, "Bearer one") == 200
    assert sum(not task.done() for task in wrong) == MAX_DELAYED  # it was answered before all of them
    assert Counter(await asyncio.gather(*wrong)) == {401: MAX_DELAYED, 429: 8}
    assert time.monotonic() - begun >= 0.05
    assert await status(gate, "Bearer wrong") == 401


async def test_a_client_that_disconnects_gives_its_place_up() -> None:
    gate = TokenGate(["one"])
    wrong = [asyncio.create_task(status(gate, "Bearer wrong")) for _ in range(MAX_DELAYED)]
    await asyncio.sleep(0)
    assert await status(gate, "Bearer wrong") == 429
    for task in wrong:
        task.cancel()
    await asyncio.gather(*wrong, return_exceptions=True)
    assert await status(gate, "Bearer wrong") == 401


async def test_a_wrong_token_is_logged_with_the_client_and_without_the_token(log: list[str]) -> None:
    CLIENT.set("192.0.2.7")
    await status(TokenGate(["one"]), "Bearer secret")
    await status(TokenGate(["one"]), "Bearer one")
    assert log == ["WARNING Rejected a test from 192.0.2.7: no valid admin token\n"]


async def test_the_token_that_matched_is_returned() -> None:
    assert await TokenGate(["one", "two"]).check("Bearer two", "a test") == "two"


def test_an_id_names_a_token_and_does_not_reveal_it() -> None:
    assert token_id("one") == token_id("one") != token_id("two")
    assert len(token_id("one")) == 8
    assert not hashlib.sha256(b"one").hexdigest().startswith(token_id("one"))  # guesses must not be cheap
