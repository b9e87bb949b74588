from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
from python_on_whales import DockerClient

from model_sync.rollout.state import Image
from model_sync.rollout.swarm import Stack, SwarmTarget
from model_sync.rollout.target import TargetError
from tests.model_sync.rollout.fake_docker import FakeDocker, failure

OLD, NEW = Image(name="bunriwiki-versions:1"), Image(name="bunriwiki-versions:2")


@pytest.fixture
def docker() -> FakeDocker:
    docker = FakeDocker()
    docker.images |= {OLD.name: "sha256:1", NEW.name: "sha256:2"}
    docker.add_service("x_service-a", f"{OLD.name}@sha256:1", 2)
    docker.add_service("x_service-b", "bunriwiki", 0)
    docker.add_service("x_trial", "bunriwiki", 0)
    return docker


@pytest.fixture
def target(docker: FakeDocker) -> SwarmTarget:
    return SwarmTarget(cast("DockerClient", docker), Stack("x"))


def images(target: SwarmTarget) -> Counter[str]:
    return Counter(replica.image_name for replica in target.replicas())


def test_one_service_grows_while_the_other_shrinks(docker: FakeDocker, target: SwarmTarget) -> None:
    for _ in range(2):
        target.start(NEW)
        target.retire(next(replica for replica in target.replicas() if replica.image == OLD.name))
    assert images(target) == {NEW.name: 2}
    assert [call[1:] for call in docker.calls] == [
        ("x_service-b", NEW.name, 1), ("x_service-a", 1), ("x_service-b", 2), ("x_service-a", 0),
    ]  # fmt: skip
    target.start(OLD)
    assert docker.calls[-1][1:] == ("x_service-a", OLD.name, 1)


def test_a_third_image_finds_no_service(target: SwarmTarget) -> None:
    target.start(NEW)
    with pytest.raises(TargetError, match="other images"):
        target.start(Image(name="bunriwiki-versions:3"))


def test_a_trial(target: SwarmTarget) -> None:
    target.start_trial(NEW)
    [trial] = [replica for replica in target.replicas() if replica.trial]
    assert (trial.image, trial.address) == (NEW.name, "x_trial.0.x_trial-0:3000")
    target.retire(trial)
    assert images(target) == {OLD.name: 2}
    target.retire(trial)


def test_identity(docker: FakeDocker, target: SwarmTarget) -> None:
    assert target.identity(NEW.name) == NEW.name
    assert target.identity("missing") is None
    docker.fails = failure()
    with pytest.raises(TargetError, match="the engine says no"):
        target.start(NEW)


def test_a_replica_keeps_its_name_when_swarm_restarts_it(docker: FakeDocker, target: SwarmTarget) -> None:
    before = target.replicas()
    docker.restarts["x_service-a.1"] = 1
    docker.delayed.add("x_service-a.1")
    after = target.replicas()
    assert [replica.name for replica in after] == [replica.name for replica in before]
    assert "" in {replica.address for replica in after}
    docker.delayed.clear()
    assert "x_service-a.1.x_service-a-1r:3000" in {replica.address for replica in target.replicas()}


def test_a_change_that_swarm_has_not_followed_yet_is_not_repeated(docker: FakeDocker, target: SwarmTarget) -> None:
    docker.slots = {"x_service-a": 2}
    leaving = target.replicas()[0]
    for _ in range(2):
        target.start(OLD)
        assert docker.calls[-1][1:] == ("x_service-a", 3)
    for _ in range(2):
        target.retire(leaving)
        assert docker.calls[-1][1:] == ("x_service-a", 1)
    for _ in range(2):
        target.start(NEW)
        assert docker.calls[-1][-1] == 1
