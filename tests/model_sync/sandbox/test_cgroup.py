from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bunriwiki.sandbox.policy import Policy
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.waiting import wait_until
from model_sync.sandbox.cgroup import ABANDONED_SECONDS, PREFIX, Cgroup, divisible_groups, open_cgroup

V2 = "30 24 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 24 0:27 {root} {point}/{name} rw,nosuid - cgroup cgroup rw,{name}"
OTHER = "32 24 0:28 / /proc rw - proc  rw"  # a mount may have an empty source
SLEEP = "import time; time.sleep(600)"


def mounts(*lines: str) -> str:
    return "\n".join((OTHER, *lines))


def test_the_root_of_the_mounted_hierarchy_is_divisible() -> None:
    assert divisible_groups("0::/", mounts(V2.format(root="/", point="/g"))) == [Path("/g")]
    assert divisible_groups("0::/docker/1", mounts(V2.format(root="/docker/1", point="/g"))) == [Path("/g")]


def test_version_1_has_a_hierarchy_for_each_controller() -> None:
    lines = [V1.format(root="/", point="/g", name=name) for name in ("memory", "pids", "cpuset")]
    assert divisible_groups("3:memory:/\n2:pids:/a\n1:cpuset:/", mounts(*lines)) == [Path("/g/memory")]


def test_a_group_that_was_not_delegated_is_not_divisible(tmp_path: Path) -> None:
    assert divisible_groups("0::/system.slice/x.service", mounts(V2.format(root="/", point=tmp_path))) == []


@pytest.mark.parametrize("own", ["/unit", "/unit/main"])
def test_a_delegated_group_is_divisible(tmp_path: Path, own: str) -> None:
    (tmp_path / "unit" / "main").mkdir(parents=True)
    os.setxattr(tmp_path / "unit", "user.delegate", b"1")
    assert divisible_groups(f"0::{own}", mounts(V2.format(root="/", point=tmp_path))) == [tmp_path / "unit"]


def test_off_creates_no_group() -> None:
    with open_cgroup("off", memory=2**30, tasks=64) as group:
        assert group.folders == ()


def test_groups_of_killed_sidecars_are_removed(tmp_path: Path) -> None:
    old, new, used, other = (tmp_path / name for name in (f"{PREFIX}old", f"{PREFIX}new", f"{PREFIX}used", "other"))
    for folder in (old, new, used / "child", other):
        folder.mkdir(parents=True)
    for folder in (old, used, other):
        os.utime(folder, (0, time.time() - ABANDONED_SECONDS - 1))
    with open_cgroup(str(tmp_path), memory=2**30, tasks=64):
        assert sorted(tmp_path.iterdir()) == sorted([new, used, other])


def test_a_folder_that_is_no_group_is_left_empty(tmp_path: Path) -> None:
    with open_cgroup(str(tmp_path), memory=2**30, tasks=64) as group:
        assert group.folders == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("file", "oom"), [("memory.events", True), ("memory.oom_control", True), ("memory.events", False)])
def test_out_of_memory_reads_the_kernels_counter(tmp_path: Path, file: str, oom: bool) -> None:
    (tmp_path / file).write_text(f"low 0\noom_kill {int(oom)}\n")
    assert Cgroup((tmp_path / "nowhere", tmp_path)).out_of_memory() == oom


def test_limits_are_set_and_remaining_processes_are_killed() -> None:
    """On the real kernel, in the hierarchies that this process may divide."""
    with open_cgroup("auto", memory=2**30, tasks=64) as group:
        if not group.folders:
            pytest.skip("no control group can be created here")
        limits = {"pids.max": "64", "memory.max": str(2**30), "memory.limit_in_bytes": str(2**30)}
        files = [file for folder in group.folders for file in folder.iterdir() if file.name in limits]
        assert {file.name: file.read_text().strip() for file in files} == {file.name: limits[file.name] for file in files}
        policy = Policy(readable=("/",), cgroups=tuple(map(str, group.folders)))
        left = subprocess.Popen(
            [sys.executable, "-m", "bunriwiki.sandbox", policy.to_json(), sys.executable, "-c", SLEEP], cwd=ROOT
        )
        wait_until(lambda: all(str(left.pid) in (folder / "cgroup.procs").read_text().split() for folder in group.folders), 20)
    assert left.wait(5) == -signal.SIGKILL
    assert not any(folder.exists() for folder in group.folders)
