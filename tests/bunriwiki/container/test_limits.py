from __future__ import annotations

import os
from pathlib import Path

import pytest

from bunriwiki.container.limits import Memory, cores, memory

UNLIMITED = 9223372036854771712  # what version 1 says


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("quota", "expected"), [("max", 64), ("50000", 1), ("150000", 2), ("200000", 2), ("9000000", 64)])
def test_cores_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    write(tmp_path, membership="0::/", cpu__max=f"{quota} 100000")
    assert cores(tmp_path, tmp_path / "membership") == expected


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 64), ("150000", 2)])
def test_cores_of_version_1_in_a_container_that_sees_its_own_group_as_the_root(
    tmp_path: Path, quota: str, expected: int
) -> None:
    write(tmp_path, membership="3:memory:/docker/a1\n2:cpu,cpuacct:/docker/a1\n1:name=systemd:/docker/a1")
    write(tmp_path / "cpu", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert cores(tmp_path, tmp_path / "membership") == expected


@pytest.mark.usefixtures("many_cores")
def test_a_group_may_use_no_more_than_the_groups_around_it(tmp_path: Path) -> None:
    write(tmp_path, membership="0::/service/worker")
    write(tmp_path / "service", cpu__max="200000 100000", memory__max=3000, memory__current=2000)
    write(tmp_path / "service" / "worker", cpu__max="max 100000", memory__max=9000, memory__current=500)
    assert cores(tmp_path, tmp_path / "membership") == 2
    assert memory(tmp_path, tmp_path / "membership") == Memory(limit=3000, used=2000)


def test_cached_files_are_free_memory(tmp_path: Path) -> None:
    stat = "anon 100\ninactive_file 700\nactive_file 5"
    write(tmp_path, membership="0::/", memory__max=1000, memory__current=900, memory__stat=stat)
    found = memory(tmp_path, tmp_path / "membership")
    assert found == Memory(limit=1000, used=200)
    assert found.free == 800


def test_memory_of_version_1(tmp_path: Path) -> None:
    write(tmp_path, membership="3:memory:/docker/a1")
    stat = "inactive_file 1\ntotal_inactive_file 100"
    write(tmp_path / "memory", memory__limit_in_bytes=1000, memory__usage_in_bytes=300, memory__stat=stat)
    assert memory(tmp_path, tmp_path / "membership") == Memory(limit=1000, used=200)
    write(tmp_path / "memory", memory__limit_in_bytes=UNLIMITED)
    assert memory(tmp_path, tmp_path / "membership") is None


def test_without_control_groups_all_cores_and_no_limit(tmp_path: Path) -> None:
    assert cores(tmp_path, tmp_path / "membership") == len(os.sched_getaffinity(0))
    assert memory(tmp_path, tmp_path / "membership") is None
