"""A rollout on Docker Swarm, of one node: `deploy/swarm/stack.yml` with all of its services in containers.

The replicas are the stand-in that starts in a second, and the writer of the store is the test.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.containers.engine import DockerError, Engine
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.replica import GOOD, Behaviour, build_replica
from bunriwiki.testing.containers.rollout import Versions, build_bad_image, described, forget_images, seconds_to_go_back
from bunriwiki.testing.containers.texts import failures, texts
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.state import Cause, Rollout, State
from tests.integration.conftest import FULL

ROLLOUT_SECONDS = 300.0
ROUNDS = 4 if FULL else 1  # of each of the bad images
STACK = "rolled"
VOLUMES = ("store", "heartbeats", "rollout")
OVERRIDE = """
services:
  rollout:
    environment:
      BUNRIWIKI_ROLLOUT_QUIET_SECONDS: "2"
      BUNRIWIKI_ROLLOUT_OBSERVE_SECONDS: "8"
      BUNRIWIKI_ROLLOUT_READY_SECONDS: "30"
      BUNRIWIKI_MONITOR_SECONDS: "0"
      BUNRIWIKI_MONITOR_REQUESTS: "10"
      BUNRIWIKI_MONITOR_LATENCY_RATIO: "10"
"""


@dataclass
class Stack:
    """The deployed stack."""

    engine: Engine
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which images are named and built on this machine as the stack's rollout does."""
        return {
            "BUNRIWIKI_ROLLOUT": "swarm",
            "BUNRIWIKI_ROLLOUT_BASE": GOOD,
            "BUNRIWIKI_MODEL_STORE": str(self._volume("store")),
            "BUNRIWIKI_SERVE_PYTHON": str(SERVE_ENV / "bin" / "python"),
            "DOCKER_HOST": f"unix://{self.engine.socket}",
            "PATH": f"/usr/bin:{os.environ['PATH']}",
        }

    @property
    def layout(self) -> Layout:
        return Layout(self._volume("store"))

    def images(self) -> Counter[str]:
        """The images of the replicas that run."""
        listed = self.engine.docker("ps", "--format={{.Names}} {{.Image}}", f"--filter=name={STACK}_service-").splitlines()
        return Counter(line.split()[1] for line in listed)

    def started(self, since: float) -> Counter[str]:
        """How many containers of each service were created after `since`, in seconds since the epoch."""
        which = ["--filter=type=container", "--filter=event=create", "--format={{.Actor.Attributes.name}}"]
        listed = self.engine.docker("events", f"--since={since}", f"--until={time.time()}", *which).split()
        ours = [name.removeprefix(f"{STACK}_") for name in listed if name.startswith(f"{STACK}_")]  # and none of a build
        return Counter(name.partition(".")[0] for name in ours)

    def logs(self) -> str:
        found = []
        for name in ("rollout", "engine", "engine-check", "service-a"):
            service = f"{STACK}_{name}"
            found.append(self.engine.docker("service", "ps", "--no-trunc", service))
            found.append(self.engine.docker("service", "logs", "--tail=40", service))
        return "\n".join(found)

    def last(self) -> int:
        """The number of the last rollout that is over."""
        return self._state().results[-1].number

    def wait(self, number: int) -> Rollout:
        """The rollout `number`, when it is over."""

        def over() -> Rollout | None:
            return next((each for each in self._state().results if each.number == number), None)

        found = wait_until(over, ROLLOUT_SECONDS, self.logs, interval=0.5)
        assert found is not None
        print(described(found))
        return found

    def _state(self) -> State:
        return State.read(self._volume("rollout") / "state.json")

    def _volume(self, name: str) -> Path:
        [place] = self.engine.docker("volume", "inspect", "--format={{.Mountpoint}}", f"bunriwiki-{name}").split()
        return Path(place)


@pytest.fixture(scope="module")
def stack(engine: Engine, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    image = images.build("rollout", f"--build-arg=DOCKER_CLI_IMAGE={images.stand_in('docker-cli')}")
    build_replica(engine)
    forget_images(engine)
    override = tmp_path_factory.mktemp("swarm") / "override.yml"
    override.write_text(f'version: "3.9"\n{OVERRIDE}')
    port = free_port()
    environment = {
        **images.stand_ins("EDGE_IMAGE"),
        "BUNRIWIKI_IMAGE": GOOD,
        "BUNRIWIKI_ROLLOUT_BASE": GOOD,
        "BUNRIWIKI_ROLLOUT_IMAGE": image,
        "BUNRIWIKI_PORT": str(port),
        "DOCKER_SOCKET": str(engine.socket),
        "STACK": STACK,
    }
    engine.docker("swarm", "init", "--advertise-addr=127.0.0.1", f"--listen-addr=127.0.0.1:{free_port()}")
    try:
        for name in VOLUMES:
            engine.docker("volume", "create", f"bunriwiki-{name}")
        files = [f"--compose-file={ROOT / 'deploy' / 'swarm' / 'stack.yml'}", f"--compose-file={override}"]
        command = ["/usr/bin/docker", "stack", "deploy", "--resolve-image=never", *files, STACK]
        engine.run(command, environment={**os.environ, **environment})
        stack = Stack(engine, f"http://127.0.0.1:{port}")
        wait_until(lambda: _are_up(engine) and _is_ready(stack.url), 180, stack.logs, interval=1)
        yield stack
        print(stack.logs())
    finally:
        engine.docker("swarm", "leave", "--force")
        wait_until(lambda: _removed(engine), 60, interval=1)


def _are_up(engine: Engine) -> bool:
    listed = engine.docker("service", "ls", "--format={{.Replicas}}").split()
    return all(each.partition("/")[0] == each.partition("/")[2] for each in listed)


def _is_ready(url: str) -> bool:
    """Whether the edge has found a replica."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _removed(engine: Engine) -> bool:
    """Whether the containers and the volumes are gone, which the engine removes some time after it has left the swarm."""
    try:
        engine.docker("volume", "rm", "--force", *(f"bunriwiki-{name}" for name in VOLUMES))
    except DockerError:
        return False
    return True


@pytest.fixture(scope="module")
def versions(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(stack.layout, tmp_path_factory.mktemp("versions"))


def test_the_stack_rolls_out(stack: Stack, versions: Versions) -> None:
    began = time.time()
    with texts(stack.url) as found:
        version = versions.publish()
        done = stack.wait(1)
    assert (done.phase, done.new.versions) == ("done", {"sentiment": version}), done.reason
    assert failures(found) == {}
    assert stack.started(began) == {"service-b": 2, "trial": 1}  # and none of the old replicas again
    wait_until(lambda: stack.images() == {done.new.name: 2}, 120, stack.logs, interval=1)


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        pytest.param("unready", "health", id="unready", marks=pytest.mark.full_form),
        pytest.param("wrong", "answers", id="wrong"),
        pytest.param("slow", "latency", id="slow", marks=pytest.mark.full_form),
    ],
)
@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_bad_image_is_left(
    stack: Stack, versions: Versions, seconds_back: list[float], behaviour: Behaviour, cause: Cause, _: int
) -> None:
    before, version = stack.images(), versions.prepare()
    bad = build_replica(stack.engine, behaviour, f"{GOOD}-{behaviour}")
    build_bad_image(stack.engine, stack.environment, version, bad)
    number = stack.last() + 1
    with texts(stack.url) as found:
        versions.promote(version)
        back = stack.wait(number)
    assert (back.phase, back.cause) == ("rolled_back", cause), back.reason
    assert failures(found) == {}
    wait_until(lambda: stack.images() == before, 120, stack.logs, interval=1)
    seconds_back.append(seconds_to_go_back(back))
