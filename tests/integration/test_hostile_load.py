"""A thousand hostile connections at once: honest clients lose nothing, and the gateway's memory stays bounded.

`python -m benchmarks.hostile` compares the latency of the honest clients as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from bunriwiki.settings import Settings
from bunriwiki.testing.crowd.measured import run_honest
from bunriwiki.testing.crowd.phase import (
    HONEST,
    MAX_GROWTH_MB,
    OTHERS,
    CrowdOptions,
    gateway_memory,
    measure,
    serving_command,
)
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL

pytestmark = pytest.mark.alone  # the crowd and the honest clients load every core

MEMBERS = 1000
SECONDS = 60.0 if FULL else 20.0
WARM_UP_SECONDS = 5.0
MAX_LARGE_MB = Settings.model_fields["body_memory_mb"].default  # with large bodies: what bodies may take


@dataclass(frozen=True)
class Warm:
    """A service that has answered for a while, and the memory of its gateway in MB."""

    server: Server
    memory: float


@pytest.fixture(scope="module")
def warm(start: Callable[..., Server]) -> Iterator[Warm]:
    server = start(command=serving_command(), grpc=True, environment={"BUNRIWIKI_LOG_REQUESTS": "false"})
    asyncio.run(run_honest(server, WARM_UP_SECONDS))
    yield Warm(server, gateway_memory(server))
    server.stop()


@pytest.mark.parametrize(
    ("kind", "sources", "max_growth"),
    [("hostile", OTHERS, MAX_GROWTH_MB), ("hostile", (HONEST,), MAX_GROWTH_MB), ("large", OTHERS, MAX_LARGE_MB)],
    ids=["small", "small, from the address of the honest clients", "large"],
)
def test_honest_clients_lose_nothing(warm: Warm, kind: str, sources: tuple[str, ...], max_growth: float) -> None:
    phase = measure(warm.server, CrowdOptions(kind, MEMBERS, SECONDS, sources))
    print(f"{phase.crowd}; {warm.memory:.0f} -> {phase.memory:.0f} MB, CPU {phase.cpu:.2f} s per second")
    for name, outcome in phase.honest.items():
        print(name, outcome.summary())
    assert phase.failures() == {}
    assert phase.memory - warm.memory <= max_growth
