from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from bunriwiki.protocols.admin.tokens import MAX_DELAYED, AdminGate
from bunriwiki.protocols.handlers.errors import RequestError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunriwiki.protocols.admin.tokens.DELAY", 0.05)


async def status(gate: AdminGate, authorization: str | None) -> int:
    try:
        await gate.check(authorization)
    except RequestError as error:
        return error.status
    return 200


@pytest.mark.anyio
async def test_with_no_token_set_it_is_closed() -> None:
    assert await status(AdminGate([]), "Bearer ") == 403


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer wrong", 401), ("Basic one", 401),
        ("Bearer one", 200), ("bearer two", 200), ("Bearer 가", 401), ("Bearer \xea\xb0\x80", 200),
    ],
)  # fmt: skip
async def test_tokens(authorization: str | None, expected: int) -> None:
    assert await status(AdminGate(["one", "two", "가"]), authorization) == expected


@pytest.mark.anyio
async def test_wrong_tokens_wait_and_the_right_one_does_not() -> None:
    gate = AdminGate(["one"])
    begun = time.monotonic()
    wrong = [asyncio.create_task(status(gate, "Bearer wrong")) for _ in range(40)]
    await asyncio.sleep(0)
    assert await status(gate, "Bearer one") == 200
    assert time.monotonic() - begun < 0.05
    assert Counter(await asyncio.gather(*wrong)) == {401: MAX_DELAYED, 429: 8}
    assert time.monotonic() - begun >= 0.05
