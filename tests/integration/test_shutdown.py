"""SIGTERM under load: every request whose connection was accepted is answered."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import run_load
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL


@pytest.mark.anyio
@pytest.mark.parametrize("attempt", range(5 if FULL else 1))
async def test_every_accepted_request_is_answered(start: Callable[..., Server], attempt: int) -> None:
    """Half of the clients keep their connections open, the others open one for each request."""
    server = await asyncio.to_thread(start)
    over = False
    loads = [
        run_load(server.url, mixed_calls(), clients=16, seconds=120, keep_alive=keep_alive, until=lambda: over)
        for keep_alive in (True, False)
    ]
    load = asyncio.gather(*loads)
    await asyncio.sleep(3 + attempt / 7)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert not await asyncio.to_thread(server.is_ready)
    code = await asyncio.to_thread(server.process.wait, 60)
    over = True
    outcomes = await load
    print([outcome.summary() for outcome in outcomes])
    assert code == 0, server.log()[-3000:]
    assert [set(outcome.counts) for outcome in outcomes] == [{"200", "refused"}] * 2
    log = server.log()
    assert log.index("stopping the gateway") < log.index("stopping the runners")
    assert "Traceback" not in log
