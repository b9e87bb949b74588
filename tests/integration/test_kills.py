"""A worker killed under load: the service recovers by itself, and failed requests get a clean error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import run_load
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL, PAUSE_SECONDS

CLEAN = {"200", "503", "504", "closed", "refused"}
RECOVERY_SECONDS = 15.0 if FULL else 60.0  # the short form may run on a busy machine
VICTIMS = ["yolo", "bunriwiki", "kcbert", "sentiment"] * (3 if FULL else 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("victims", "environment"),
    [
        pytest.param(VICTIMS, {}, id="on a host"),
        # BentoML itself does not restart workers in a container.
        pytest.param(["kcbert", "bunriwiki"], {"BENTOML_CONTAINERIZED": "true"}, id="in a container"),
    ],
)
async def test_killed_workers(start: Callable[..., Server], victims: list[str], environment: dict[str, str]) -> None:
    server = await asyncio.to_thread(start, environment=environment)
    over = False
    requests = run_load(server.url, mixed_calls(), clients=16, seconds=600, pause=PAUSE_SECONDS, until=lambda: over)
    load = asyncio.create_task(requests)
    recoveries = []
    for victim in victims:
        await asyncio.sleep(2)
        worker = server.workers()[victim]
        worker.kill()
        await asyncio.to_thread(worker.wait)
        recoveries.append(await asyncio.to_thread(server.wait_until_ready, RECOVERY_SECONDS))
    over = True
    outcome = await load
    print(outcome.summary(), "seconds to recover:", [round(seconds, 1) for seconds in recoveries])
    assert set(outcome.counts) <= CLEAN
    assert outcome.counts["200"] > 0
    after = await run_load(server.url, mixed_calls(), clients=16, seconds=3)
    assert set(after.counts) == {"200"}
    await asyncio.to_thread(server.stop)
