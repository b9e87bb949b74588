"""A Docker engine that the tests start, the project's images, and stand-ins for those that cannot be pulled.

BUNRIWIKI_ENGINE names a folder for the engine that is kept, so that the next run has its images and its caches.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest

from bunriwiki.testing.containers.compose import Composed, clone
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.pip_secrets import Secrets, pip_secrets
from bunriwiki.testing.containers.replica import GOOD, build_replica
from bunriwiki.testing.containers.requirements import missing
from bunriwiki.testing.containers.rig import Rig, rollout_rig
from bunriwiki.testing.containers.traffic import Traffic, traffic
from tests.integration.conftest import FULL

Start = Callable[..., Composed]
# Seconds between an answer and a client's next request. In the short form they leave something of two cores to what happens
# under the load, which was 30 to 120 requests per second over REST where other work shared the cores.
PAUSE_SECONDS = 0.0 if FULL else 0.02
CALM_SECONDS = 10.0 if FULL else 2.0  # of load before and after an event
REPLICAS = 2  # of a rollout
ENGINE = pytest.StashKey[Engine]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The tests of this folder run in the network of the engine, those of other folders in that of the machine."""
    if engine := item.config.stash.get(ENGINE, None):
        engine.enter()
    try:
        return (yield)
    finally:
        if engine := item.config.stash.get(ENGINE, None):
            engine.leave()


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    if (lacks := missing()) and not os.environ.get("CI"):
        pytest.skip(lacks)  # in CI, the start fails with this sentence
    kept = os.environ.get("BUNRIWIKI_ENGINE")
    folder = Path(kept or tempfile.mkdtemp(prefix="bunriwiki-engine-"))
    with Engine(folder) as engine:
        pytestconfig.stash[ENGINE] = engine
        yield engine
    if not kept:
        subprocess.run(["/usr/bin/rm", "-rf", folder], check=False)  # hundreds of thousands of files: Python takes a minute


@pytest.fixture(scope="session")
def secrets(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secrets]:
    with pip_secrets(tmp_path_factory.mktemp("secrets"), engine.gateway) as secrets:
        yield secrets


@pytest.fixture(scope="session")
def images(engine: Engine, secrets: Secrets) -> Images:
    return Images(engine, secrets)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare clone."""
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def compose(engine: Engine, images: Images, repository: Path) -> Iterator[Start]:
    """Returns projects of docker-compose.yml with stand-ins for the images of `variables`; removed at the end."""
    projects: list[Composed] = []

    def make(*variables: str, profiles: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> Composed:
        settings = {**images.stand_ins(*variables), **(environment or {})}
        projects.append(Composed(engine, repository, settings, profiles))
        return projects[-1]

    yield make
    for project in projects:
        project.down()


@pytest.fixture(scope="module")
def rig(engine: Engine, compose: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Rollouts of the stand-in with Compose: the rollout's process runs on this machine, and nothing was published yet."""
    build_replica(engine)
    project = compose("EDGE_IMAGE", environment={"BUNRIWIKI_IMAGE": GOOD})
    project.up("--no-recreate", "--scale", f"service={REPLICAS}")
    with rollout_rig(project, tmp_path_factory.mktemp("rollout")) as rig:
        yield rig
        print(rig.process.log.read_text(errors="replace")[-6000:])


@pytest.fixture(scope="module")
def seconds_back() -> Iterator[list[float]]:
    """From the detection of each bad image until all replicas were old ones."""
    seconds: list[float] = []
    yield seconds
    print(f"from detection to all old: {len(seconds)}, median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s")


def during(
    project: Composed, event: Callable[[], None], *, rest: int = 12, grpc_clients: int = 4, pause: float = PAUSE_SECONDS
) -> Traffic:
    """What came of the requests around an event, which are counted on the standard output as well."""
    with traffic(project.url, rest=rest, grpc_clients=grpc_clients, pause=pause) as found:
        time.sleep(CALM_SECONDS)
        event()
        time.sleep(CALM_SECONDS)
    print(event.__name__, found.summary(), dict(found.failures))
    assert found.requests > 0
    assert found.grpc["OK"] > 0
    return found
