"""64 clients that mix photos, comments and reviews: no request fails, and memory does not grow."""

from __future__ import annotations

import asyncio

import pytest

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import Outcome, run_load
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL

pytestmark = pytest.mark.alone

CLIENTS = 64
SECONDS = 60 if FULL else 12
GROWTH = 1.08  # of the workers' memory, from the end of the warm-up to the end


def memory(server: Server) -> int:
    """The resident bytes of all workers."""
    return sum(worker.memory_info().rss for worker in server.workers().values())


def load(server: Server, seconds: float) -> Outcome:
    return asyncio.run(run_load(server.url, mixed_calls(), clients=CLIENTS, seconds=seconds))


def test_no_failed_request_and_flat_memory(server: Server) -> None:
    load(server, SECONDS / 4)
    warm = memory(server)
    outcome = load(server, SECONDS)
    print(outcome.summary(), f"memory {warm / 2**20:.0f} -> {memory(server) / 2**20:.0f} MB")
    assert set(outcome.counts) == {"200"}
    assert memory(server) < GROWTH * warm
