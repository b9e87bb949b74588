from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.protocols.handlers.memory import MB, SMALL_BYTES, Memory
from bunriwiki.web.problems import RequestError

SMALL_MB, LARGE_MB = 2, 32


@pytest.fixture
def memory() -> Memory:
    return Memory(LARGE_MB, SMALL_MB)


class Body:
    """A body of a client, and what it has of the memory."""

    def __init__(self, memory: Memory, client: str) -> None:
        self._memory = memory
        self._client = client
        self._size = 0

    def grow(self, size: int) -> None:
        """To `size` bytes. Raises RequestError."""
        self._memory.resize(self._client, "yolo", self._size, size)
        self._size = size

    def end(self) -> None:
        self._memory.resize(self._client, "yolo", self._size, 0)


def held_by(memory: Memory, client: str, size: int) -> list[Body]:
    """Bodies of a client, of `size` bytes each, as many as it may hold."""
    found: list[Body] = []
    while True:
        body = Body(memory, client)
        try:
            body.grow(size)
        except RequestError as error:
            assert (error.status, error.headers) == (503, {"Retry-After": "5"})
            return found
        found.append(body)


def test_a_client_alone_may_hold_half_of_the_memory_for_large_bodies(memory: Memory) -> None:
    assert len(held_by(memory, "one", MB)) == 16


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12))))
def test_there_is_room_for_what_can_be_taken(taken: list[tuple[str, int]]) -> None:
    part = Memory(LARGE_MB, SMALL_MB).large
    for client, size in taken:
        room = part.has_room(client, size * MB)
        assert part.take(client, size * MB) == room


def test_there_is_always_some_left_for_one_more_client(memory: Memory) -> None:
    assert [len(held_by(memory, client, MB // 2)) for client in ("one", "two", "three")] == [32, 16, 8]


def test_what_clients_hold_evens_out(memory: Memory) -> None:
    first = held_by(memory, "one", MB // 2)
    second = held_by(memory, "two", MB // 2)
    for body in first:
        body.end()
    assert len(second) + len(held_by(memory, "two", MB // 2)) == 32
    assert len(held_by(memory, "one", MB // 2)) == 16


def test_large_bodies_leave_the_memory_for_small_ones(memory: Memory) -> None:
    for number in range(40):
        held_by(memory, f"client {number}", MB // 2)
    assert len(held_by(memory, "client 1", SMALL_BYTES)) == 16


def test_a_body_that_grows_becomes_a_large_one(memory: Memory) -> None:
    small = held_by(memory, "one", SMALL_BYTES)
    with pytest.raises(RequestError):
        Body(memory, "one").grow(1)
    small[0].grow(SMALL_BYTES + 1)
    assert len(held_by(memory, "one", SMALL_BYTES)) == 1  # in its place


def test_a_body_that_may_not_grow_keeps_what_it_has_until_it_ends(memory: Memory) -> None:
    large = held_by(memory, "one", MB)
    growing = Body(memory, "one")
    growing.grow(SMALL_BYTES)
    with pytest.raises(RequestError):
        growing.grow(MB)
    assert len(held_by(memory, "two", SMALL_BYTES)) == 15  # of 32, less the one and as many as are free
    growing.end()
    large[0].end()
    Body(memory, "one").grow(MB)


def test_an_empty_body_is_held_by_nobody(memory: Memory) -> None:
    Body(memory, "one").end()
    assert not memory.small._held


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 4 * MB), max_size=5), st.booleans())))
def test_whatever_is_held_is_given_back(requests: list[tuple[str, list[int], bool]]) -> None:
    memory = Memory(LARGE_MB, SMALL_MB)
    open_bodies: list[Body] = []
    for client, chunks, ends in requests:
        body = Body(memory, client)
        try:
            for size in accumulate(chunks):
                body.grow(size)
        except RequestError:
            assert sum(chunks) > SMALL_BYTES
        if ends:
            body.end()
        else:
            open_bodies.append(body)
    for body in open_bodies:
        body.end()
    assert len(held_by(memory, "a", MB)) == 16
    assert len(held_by(memory, "b", SMALL_BYTES)) == 16
