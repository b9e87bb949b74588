from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bunriwiki.web.connections import SWEEP_SECONDS, ConnectionLimits, ConnectionPool


class FakeConnection:
    def __init__(self, group: str = "a", *, owes: bool = True, arriving: int = 0) -> None:
        self.group = group
        self.owes = owes
        self.arriving_bytes = arriving
        self.open = True

    def check(self, now: float) -> bool:
        assert now >= 0
        return self.owes

    def still_owes(self) -> bool:
        return self.owes

    def cut(self) -> None:
        self.open = False


class FakeLoop:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Any, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Any, argument: Any) -> None:
        self.calls.append((delay, call, argument))

    def pass_a_sweep(self) -> None:
        self.now += SWEEP_SECONDS
        calls, self.calls = self.calls, []
        for _, call, argument in calls:
            call(argument)


class Pool:
    """A pool with a fake loop."""

    def __init__(self, connections: int, arriving_bytes: int = 100) -> None:
        self.pool = ConnectionPool(ConnectionLimits(connections, arriving_bytes=arriving_bytes))
        self.loop: Any = FakeLoop()

    def enter(self, group: str = "a", *, owes: bool = True, arriving: int = 0) -> FakeConnection:
        connection = FakeConnection(group, owes=owes, arriving=arriving)
        connection.open = self.pool.enter(connection, self.loop)
        return connection


def test_the_oldest_connection_without_a_head_makes_room() -> None:
    pool = Pool(3)
    first, second, third = (pool.enter() for _ in range(3))
    pool.pool.has_head(first)
    fourth = pool.enter()
    assert [first.open, second.open, third.open, fourth.open] == [True, False, True, True]
    assert len(pool.pool) == 3


def test_a_client_with_many_connections_replaces_its_own_only() -> None:
    pool = Pool(10)
    honest = pool.enter("honest")
    hostile = [pool.enter("hostile") for _ in range(1000)]
    assert honest.open
    assert sum(connection.open for connection in hostile) == 9
    newcomer = pool.enter("another")
    assert newcomer.open
    assert honest.open
    assert sum(connection.open for connection in hostile) == 8


def test_connections_that_owe_something_make_room_after_those_without_a_head() -> None:
    pool = Pool(4)
    busy, owing = pool.enter(owes=False), pool.enter()
    headless = pool.enter()
    also_busy = pool.enter(owes=False)
    for connection in (busy, owing, also_busy):
        pool.pool.has_head(connection)
    pool.loop.pass_a_sweep()
    one = pool.enter(owes=False)
    pool.pool.has_head(one)
    assert (headless.open, owing.open) == (False, True)
    two = pool.enter(owes=False)
    pool.pool.has_head(two)
    assert (owing.open, busy.open, also_busy.open, one.open, two.open) == (False, True, True, True, True)
    assert not pool.enter().open


def test_a_connection_that_owes_nothing_any_more_is_not_closed() -> None:
    pool = Pool(1)
    connection = pool.enter()
    pool.pool.has_head(connection)
    pool.loop.pass_a_sweep()
    connection.owes = False
    assert not pool.enter().open
    assert connection.open


def test_a_connection_that_is_gone_makes_room_once() -> None:
    pool = Pool(1)
    connection = pool.enter()
    pool.pool.leave(connection)
    pool.pool.leave(connection)
    assert len(pool.pool) == 0
    assert pool.enter().open


def test_heads_that_arrive_have_limited_memory_together() -> None:
    pool = Pool(10, arriving_bytes=100)
    small, large, larger = pool.enter(arriving=10), pool.enter(arriving=60), pool.enter(arriving=80)
    pool.loop.pass_a_sweep()
    assert [small.open, large.open, larger.open] == [True, True, False]


def test_the_sweep_stops_with_the_last_connection() -> None:
    pool = Pool(10)
    connection = pool.enter()
    pool.enter()
    assert len(pool.loop.calls) == 1
    pool.loop.pass_a_sweep()
    assert len(pool.loop.calls) == 1
    for each in list(pool.pool._connections):
        pool.pool.leave(each)
    pool.loop.pass_a_sweep()
    assert not pool.loop.calls
    assert pool.pool.enter(connection, pool.loop)
    assert len(pool.loop.calls) == 1


@pytest.mark.parametrize("groups", [1, 100])
def test_many_connections_cost_little(groups: int) -> None:
    """No search per newcomer, which a flood of connections could use."""
    pool = Pool(1000)
    for number in range(20_000):
        pool.enter(f"client {number % groups}")
    assert len(pool.pool) == 1000


def test_it_runs_in_a_real_loop() -> None:
    async def run() -> None:
        pool = ConnectionPool(ConnectionLimits(1))
        assert pool.enter(FakeConnection(), asyncio.get_running_loop())

    asyncio.run(run())
