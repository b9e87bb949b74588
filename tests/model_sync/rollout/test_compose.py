from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from python_on_whales import DockerClient

from model_sync.rollout.compose import CREATED_SECONDS, RETURN_SECONDS, ComposeTarget, Project
from model_sync.rollout.state import Image
from model_sync.rollout.target import TRIAL_LABEL, TargetError
from tests.model_sync.rollout.fake_docker import NOW, FakeDocker, failure

LABELS = {"com.docker.compose.project": "x", "com.docker.compose.service": "service"}
NEW = Image(name="bunriwiki-versions:1", versions={"yolo": "v2"})


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    docker = FakeDocker()
    docker.images[NEW.name] = "sha256:new"
    for _ in range(2):
        docker.add("bunriwiki", labels=LABELS)
    with docker.as_client():
        yield docker


@pytest.fixture
def target(docker: FakeDocker, tmp_path: Path) -> ComposeTarget:
    project = Project("x", tmp_path, [tmp_path / "docker-compose.yml"])
    return ComposeTarget(cast("DockerClient", docker), project, tmp_path / "scratch", now=lambda: NOW)


def test_replicas_have_the_address_in_the_network_of_the_edge(docker: FakeDocker, target: ComposeTarget) -> None:
    docker.add("bunriwiki", labels={**LABELS, "com.docker.compose.service": "edge"})
    first, second = target.replicas()
    assert (first.name, first.address, first.image, first.image_name) == (
        "c0",
        "10.0.0.0:3000",
        "sha256:" + "b" * 64,
        "bunriwiki",
    )
    assert (second.address, second.exited, second.trial) == ("10.0.1.0:3000", False, False)


@pytest.mark.parametrize(
    ("status", "age", "exited"),
    [
        ("exited", 0, False),
        ("exited", RETURN_SECONDS + 1, True),
        ("dead", RETURN_SECONDS + 1, True),
        ("restarting", 0, False),
        ("created", 0, False),
        ("created", CREATED_SECONDS + 1, True),
    ],
)
def test_replicas_that_do_not_run_have_no_address(
    docker: FakeDocker, target: ComposeTarget, status: str, age: float, exited: bool
) -> None:
    then = NOW - timedelta(seconds=age)
    name = docker.add("bunriwiki", labels=LABELS, status=status, finished_at=then)
    docker.containers[name].created = then
    [replica] = [replica for replica in target.replicas() if replica.name == name]
    assert (replica.address, replica.exited) == ("", exited)


def test_a_trial_that_ended_does_not_return(docker: FakeDocker, target: ComposeTarget) -> None:
    docker.add("bunriwiki", labels={TRIAL_LABEL: "x"}, networks=["x_serving"], status="exited", finished_at=NOW)
    *_, trial = target.replicas()
    assert (trial.trial, trial.exited) == (True, True)


def test_one_more_replica_has_the_image_and_the_configuration_of_the_project(
    docker: FakeDocker, target: ComposeTarget, tmp_path: Path
) -> None:
    target.start(NEW)
    *_, new = target.replicas()
    assert (new.image, new.image_name) == ("sha256:new", NEW.name)
    [(_, services, options)] = docker.calls
    assert services == ["service"]
    assert options["scales"] == {"service": 3}
    assert (options["recreate"], options["dependencies"], options["no_build"], options["pull"]) == (False, False, True, "never")
    files = docker.made_with["compose_files"]
    assert files[0] == tmp_path / "docker-compose.yml"
    override = yaml.safe_load(Path(files[1]).read_text(encoding="utf-8"))
    assert override == {"services": {"service": {"image": NEW.name}}}


def test_a_trial_gets_no_requests_and_has_no_store(docker: FakeDocker, target: ComposeTarget) -> None:
    target.start_trial(NEW)
    [trial] = [replica for replica in target.replicas() if replica.trial]
    assert trial.address
    [(_, image, options)] = docker.calls
    assert image == NEW.name
    assert options["cap_drop"] == ["ALL"]
    assert options["read_only"] is True
    assert options["networks"] == ["x_serving"]
    assert not {"volumes", "mounts", "network_aliases", "privileged", "publish"} & set(options)


def test_retiring_waits_for_what_has_begun(docker: FakeDocker, target: ComposeTarget) -> None:
    first = target.replicas()[0]
    target.retire(first)
    assert docker.calls == [("stop", "c0", 90)]
    assert [replica.name for replica in target.replicas()] == ["c1"]
    target.retire(first)  # it is gone already


def test_the_identity_of_an_image(target: ComposeTarget) -> None:
    assert target.identity(NEW.name) == "sha256:new"
    assert target.identity("missing") is None


@pytest.mark.parametrize("call", ["replicas", "start", "retire"])
def test_what_the_engine_answers_is_an_error(docker: FakeDocker, target: ComposeTarget, call: str) -> None:
    replica = target.replicas()[0]
    docker.fails = failure()
    calls: dict[str, Any] = {
        "replicas": target.replicas, "start": lambda: target.start(NEW), "retire": lambda: target.retire(replica)
    }  # fmt: skip
    with pytest.raises(TargetError, match="the engine says no"):
        calls[call]()


def test_without_a_network_of_replicas_there_is_no_trial(docker: FakeDocker, target: ComposeTarget) -> None:
    docker.containers.clear()
    with pytest.raises(TargetError, match="alias replicas"):
        target.start_trial(NEW)
