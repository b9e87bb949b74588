from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.protocols.handlers.memory import MB, SMALL_BYTES, Holding, Memory
from bunriwiki.web.problems import RequestError

SMALL_MB, MAX_MB = 2, 46  # a quarter is spare, so 32 MB are for large bodies


@pytest.fixture
def memory() -> Memory:
    return Memory(MAX_MB, SMALL_MB)


def held_by(memory: Memory, client: str, size: int) -> list[Holding]:
    """Bodies of a client, of `size` bytes each, as many as it may hold."""
    found: list[Holding] = []
    while True:
        holding = memory.holding("yolo", client)
        try:
            holding.reserve(size)
        except RequestError as error:
            assert (error.status, error.headers) == (503, {"Retry-After": "5"})
            return found
        found.append(holding)


def test_a_client_alone_may_hold_half_of_the_memory_for_large_bodies(memory: Memory) -> None:
    assert len(held_by(memory, "one", MB)) == 16


def test_there_is_always_some_left_for_one_more_client(memory: Memory) -> None:
    assert [len(held_by(memory, client, MB // 2)) for client in ("one", "two", "three")] == [32, 16, 8]


def test_what_clients_hold_evens_out(memory: Memory) -> None:
    first = held_by(memory, "one", MB // 2)
    second = held_by(memory, "two", MB // 2)
    for holding in first:
        holding.__exit__(None, None, None)
    assert len(second) + len(held_by(memory, "two", MB // 2)) == 32
    assert len(held_by(memory, "one", MB // 2)) == 16


def test_large_bodies_leave_the_memory_for_small_ones(memory: Memory) -> None:
    for number in range(40):
        held_by(memory, f"client {number}", MB // 2)
    assert len(held_by(memory, "client 1", SMALL_BYTES)) == 16


def test_a_body_that_grows_becomes_a_large_one(memory: Memory) -> None:
    small = held_by(memory, "one", SMALL_BYTES)
    with pytest.raises(RequestError):
        memory.holding("yolo", "one").reserve(1)
    small[0].reserve(1)
    assert len(held_by(memory, "one", SMALL_BYTES)) == 1  # in its place


def test_a_body_that_may_not_grow_keeps_what_it_has_until_it_ends(memory: Memory) -> None:
    large = held_by(memory, "one", MB)
    with memory.holding("yolo", "one") as growing:
        growing.reserve(SMALL_BYTES)
        with pytest.raises(RequestError):
            growing.reserve(MB)
    large[0].__exit__(None, None, None)
    with memory.holding("yolo", "one") as again:
        again.reserve(MB)


def test_an_empty_body_is_held_by_nobody(memory: Memory) -> None:
    with memory.holding("yolo", "one") as holding:
        holding.reserve(0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 4 * MB), max_size=5), st.booleans())))
def test_whatever_is_held_is_given_back(requests: list[tuple[str, list[int], bool]]) -> None:
    memory = Memory(MAX_MB, SMALL_MB)
    open_requests: list[Holding] = []
    for client, sizes, ends in requests:
        holding = memory.holding("yolo", client)
        try:
            for size in sizes:
                holding.reserve(size)
        except RequestError:
            assert sum(sizes) > SMALL_BYTES
        if ends:
            holding.__exit__(None, None, None)
        else:
            open_requests.append(holding)
    for holding in open_requests:
        holding.__exit__(None, None, None)
    assert len(held_by(memory, "a", MB)) == 16
    assert len(held_by(memory, "b", SMALL_BYTES)) == 16
