from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bunriwiki.sandbox.policy import Policy
from model_sync.sandbox.cgroup import Cgroup, open_cgroup, own_groups
from tests.conftest import ROOT

V2 = "30 24 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 24 0:27 {root} {point}/{name} rw,nosuid - cgroup cgroup rw,{name}"
OTHER = "32 24 0:28 / /proc rw - proc  rw"  # a mount may come from nowhere
SLEEP = "import time; time.sleep(600)"


def mounts(*lines: str) -> str:
    return "\n".join((OTHER, *lines))


def test_a_container_divides_what_it_was_given() -> None:
    assert own_groups("0::/", mounts(V2.format(root="/", point="/g"))) == [Path("/g")]
    assert own_groups("0::/docker/1", mounts(V2.format(root="/docker/1", point="/g"))) == [Path("/g")]


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    lines = [V1.format(root="/", point="/g", name=name) for name in ("memory", "pids", "cpuset")]
    assert own_groups("3:memory:/\n2:pids:/a\n1:cpuset:/", mounts(*lines)) == [Path("/g/memory")]


def test_what_somebody_else_manages_is_left_alone(tmp_path: Path) -> None:
    assert own_groups("0::/system.slice/x.service", mounts(V2.format(root="/", point=tmp_path))) == []


@pytest.mark.parametrize("own", ["/unit", "/unit/main"])
def test_a_manager_delegates(tmp_path: Path, own: str) -> None:
    (tmp_path / "unit" / "main").mkdir(parents=True)
    os.setxattr(tmp_path / "unit", "user.delegate", b"1")
    assert own_groups(f"0::{own}", mounts(V2.format(root="/", point=tmp_path))) == [tmp_path / "unit"]


def test_off_makes_none() -> None:
    with open_cgroup("off", memory=2**30, tasks=64) as group:
        assert group.folders == ()


def test_a_folder_that_is_no_group_holds_nothing(tmp_path: Path) -> None:
    with open_cgroup(str(tmp_path), memory=2**30, tasks=64) as group:
        assert group.folders == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("file", "oom"), [("memory.events", True), ("memory.oom_control", True), ("memory.events", False)])
def test_the_kernel_says_who_was_out_of_memory(tmp_path: Path, file: str, oom: bool) -> None:
    (tmp_path / file).write_text(f"low 0\noom_kill {int(oom)}\n")
    assert Cgroup((tmp_path / "nowhere", tmp_path)).out_of_memory() == oom


def test_limits_are_set_and_what_is_left_is_ended() -> None:
    """On the real kernel, in whatever hierarchies this process may divide."""
    with open_cgroup("auto", memory=2**30, tasks=64) as group:
        if not group.folders:
            pytest.skip("no control group may be made here")
        limits = {file.name: file.read_text().strip() for folder in group.folders for file in folder.glob("*.max")}
        assert limits.get("pids.max", "64") == "64"
        policy = Policy(readable=("/",), cgroups=tuple(map(str, group.folders)))
        left = subprocess.Popen(
            [sys.executable, "-m", "bunriwiki.sandbox", policy.to_json(), sys.executable, "-c", SLEEP], cwd=ROOT
        )
        deadline = time.monotonic() + 20
        while not all(str(left.pid) in (folder / "cgroup.procs").read_text().split() for folder in group.folders):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert left.wait(5) == -signal.SIGKILL
    assert not any(folder.exists() for folder in group.folders)
