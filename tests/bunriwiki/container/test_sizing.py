from __future__ import annotations

import pytest

from bunriwiki.container import sizing
from bunriwiki.container.limits import Memory

GB = 2**30


@pytest.mark.parametrize(("cores", "expected"), [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (8, (4, 2)), (64, (4, 16))])
def test_threads_and_gateway_workers_follow_the_cores(cores: int, expected: tuple[int, int]) -> None:
    assert (sizing.threads(cores), sizing.gateway_workers(cores)) == expected


@pytest.mark.parametrize(("limit", "expected"), [(None, 4), (GB, 1), (4 * GB, 2), (64 * GB, 4)])
def test_runner_workers_follow_cores_and_memory(limit: int | None, expected: int) -> None:
    assert sizing.runner_workers(16, Memory(limit, 0) if limit else None) == expected


def test_a_worker_is_replaced_before_it_takes_all_memory() -> None:
    assert sizing.max_rss_mb(Memory(3 * GB, 0)) == 1536
    assert sizing.max_rss_mb(None) == 0


def test_a_container_with_little_memory_says_so() -> None:
    assert "has 1024 MB" in str(sizing.warning(Memory(GB, 0)))
    assert sizing.warning(Memory(2 * GB, 0)) is None
    assert sizing.warning(None) is None
