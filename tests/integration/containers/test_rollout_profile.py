"""The profile `rollout` of docker-compose.yml: the rollout, the engine's socket and the check of bodies in their containers.

The images are pushed to a registry that asks for a password.

The replicas are the stand-in that starts in a second, and the writer of the store is the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.containers.compose import Composed, clone
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.image_registry import ImageRegistry, image_registry
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.replica import GOOD, build_replica
from bunriwiki.testing.containers.rollout import Versions, forget_images
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.state import Rollout, State

ROLLOUT_SECONDS = 300.0
SETTINGS = {
    "BUNRIWIKI_ROLLOUT_QUIET_SECONDS": "2",
    "BUNRIWIKI_ROLLOUT_OBSERVE_SECONDS": "2",
    "BUNRIWIKI_MONITOR_SECONDS": "0",
    "DOCKER_CONFIG": "/project/docker",
}


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    """A registry in the network of the engine."""
    with image_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def composed(
    engine: Engine, images: Images, registry: ImageRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    image = images.build("rollout", f"--build-arg=DOCKER_CLI_IMAGE={images.stand_in('docker-cli')}")
    build_replica(engine)
    forget_images(engine)
    folder = clone(tmp_path_factory.mktemp("project"))
    folder.chmod(0o755)  # the rollout reads it as user 10001
    environment = {
        **images.stand_ins("EDGE_IMAGE"),
        "BUNRIWIKI_IMAGE": GOOD,
        "BUNRIWIKI_ROLLOUT_IMAGE": image,
        "BUNRIWIKI_MONITOR_SECONDS": "0",
        "BUNRIWIKI_ROLLOUT_REGISTRY": f"{registry.address}/team",
        "DOCKER_SOCKET": str(engine.socket),
    }
    project = Composed(engine, folder, environment, ["rollout"])
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in project.environment.items()))
    (folder / "rollout.env").write_text("".join(f"{name}={value}\n" for name, value in SETTINGS.items()))
    (folder / "docker").mkdir()
    (folder / "docker" / "config.json").write_text(registry.client_configuration)
    project("up", "--detach", "--scale", "service=2")  # the rollout is healthy after half a minute, and works before
    yield project
    print(project.logs("rollout", "engine", "engine-check"))
    project.down()


def test_the_profile_rolls_out_and_pushes(composed: Composed, registry: ImageRegistry, tmp_path: Path) -> None:
    before = set(composed.containers("service"))
    version = Versions(Layout(volume(composed, "store")), tmp_path).publish()
    state = volume(composed, "rollout") / "state.json"

    def over() -> Rollout | None:
        return next(iter(State.read(state).results), None)

    done = wait_until(over, ROLLOUT_SECONDS, lambda: composed.logs("rollout", "engine", "engine-check"), interval=0.5)
    assert done is not None
    assert (done.phase, done.new.versions) == ("done", {"sentiment": version}), done.reason
    after = set(composed.containers("service"))
    assert len(after) == 2
    assert not before & after
    status = composed.execute("rollout", "/opt/sync/bin/python3", "-m", "model_sync", "rollout", "status")
    assert done.new.name in status
    assert done.new.name.startswith(f"{registry.address}/team/bunriwiki-versions:")
    [pushed] = composed.engine.docker("image", "inspect", '--format={{join .RepoDigests " "}}', done.new.name).split()
    assert pushed.endswith(f"@{registry.digest(done.new.name)}")


def volume(composed: Composed, name: str) -> Path:
    """The folder of a volume of the project."""
    [place] = composed.engine.docker("volume", "inspect", "--format={{.Mountpoint}}", f"{composed.project}_{name}").split()
    return Path(place)
