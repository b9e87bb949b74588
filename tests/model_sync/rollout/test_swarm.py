from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
from python_on_whales import DockerClient

from model_sync.rollout.state import Image
from model_sync.rollout.swarm import Stack, SwarmTarget
from model_sync.rollout.target import TargetError
from tests.model_sync.rollout.fake_docker import NOW, FakeDocker, failure

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
    return SwarmTarget(cast("DockerClient", docker), Stack("x"), now=lambda: NOW)


def images(target: SwarmTarget) -> Counter[str]:
    return Counter(replica.image_name for replica in target.replicas())


def test_one_service_grows_while_the_other_shrinks(docker: FakeDocker, target: SwarmTarget) -> None:
    for _ in range(2):
        target.start(NEW, 1)
        target.retire(next(replica for replica in target.replicas() if replica.image == OLD.name))
    assert images(target) == {NEW.name: 2}
    assert [call[1:] for call in docker.calls] == [
        ("x_service-b", NEW.name, 1), ("x_service-a", None, 1), ("x_service-b", None, 2), ("x_service-a", None, 0),
    ]  # fmt: skip
    target.start(OLD, 2)
    assert docker.calls[-1][1:] == ("x_service-a", OLD.name, 1)


def test_a_third_image_finds_no_service(target: SwarmTarget) -> None:
    target.start(NEW, 1)
    with pytest.raises(TargetError, match="other images"):
        target.start(Image(name="bunriwiki-versions:3"), 2)


def test_a_trial(target: SwarmTarget) -> None:
    target.start_trial(NEW, 1)
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
        target.start(NEW, 1)
