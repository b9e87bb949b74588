"""Images with the serving versions, rolled out to replicas behind the edge, under load.

The writer of the store is the test, and the rollout's process runs on this machine; both reach what they reach in a container.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from python_on_whales import DockerClient

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.rollout import RolloutProcess, rollout_process
from bunriwiki.testing.containers.traffic import Traffic, traffic
from bunriwiki.testing.versions import make_version
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.state import State
from model_sync.rollout_process import make_images
from model_sync.settings import SyncSettings
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import Start

ROLLOUT_SECONDS = 420.0
CALM_SECONDS = 10.0 if FULL else 2.0
REPLICAS = 2
REPOSITORY = "bunriwiki-versions"


@pytest.fixture(scope="module")
def composed(compose: Start, images: Images) -> Iterator[Composed]:
    images.build("service")
    project = compose("EDGE_IMAGE")
    project.up("--no-recreate", "--scale", f"service={REPLICAS}")
    yield project
    print(project.logs("edge"))


@pytest.fixture(scope="module")
def rollouts(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutProcess]:
    with rollout_process(composed, tmp_path_factory.mktemp("rollout")) as process:
        process.start()
        yield process
        print(process.log.read_text(errors="replace"))


def publish(process: RolloutProcess, version: str, rotation: int) -> None:
    """Publish a version of sentiment to the replicas' store, and promote it: a hot swap."""
    with tempfile.TemporaryDirectory() as folder, open_writer(process.layout.root, "a test") as writer:
        made = make_version("sentiment", version, rotation, Path(folder) / version)
        writer.publish(made, "a test", "poll")
        for path in process.layout.models.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        promote(writer, "sentiment", version, "a test", "poll")


def images_of(composed: Composed) -> list[str]:
    return [str(composed.inspect(container)["Config"]["Image"]) for container in composed.containers("service")]


def during(composed: Composed, event: Callable[[], None]) -> Traffic:
    """What came of the requests around an event."""
    with traffic(composed.url, rest=4, grpc_clients=1) as found:
        time.sleep(CALM_SECONDS)
        event()
        time.sleep(CALM_SECONDS)
    print(event.__name__, found.summary(), dict(found.failures))
    assert found.requests > 0
    assert found.grpc["OK"] > 0
    return found


def test_a_rolling_rebuild_fails_no_request(composed: Composed, rollouts: RolloutProcess) -> None:
    before = set(composed.containers("service"))

    def roll_out() -> None:
        publish(rollouts, "v2", 1)
        done = rollouts.wait(1, ROLLOUT_SECONDS)
        assert done.phase == "done", done.reason
        assert done.new.versions == {"sentiment": "v2"}

    found = during(composed, roll_out)
    assert not found.failures
    after = set(composed.containers("service"))
    assert len(after) == REPLICAS
    assert not after & before
    [image] = set(images_of(composed))
    assert image.startswith(f"{REPOSITORY}:")
    assert answer_without_anything(composed, image) == "v2"


def answer_without_anything(composed: Composed, image: str) -> str:
    """The version with which a container of `image` answers that has no network, no volume and no setting."""
    engine = composed.engine
    container = engine.docker("run", "--detach", "--network=none", "--read-only", "--tmpfs=/tmp", image).strip()
    ask = (
        "import json, urllib.request as r; q = r.Request('http://127.0.0.1:3000/predict', json.dumps({'text': 'x'}).encode(), "
        "{'Content-Type': 'application/json'}); print(r.urlopen(q).headers['X-Model-Version'])"
    )
    try:
        wait_until(
            lambda: json.loads(engine.docker("inspect", container))[0]["State"]["Health"]["Status"] == "healthy",
            180,
            lambda: engine.logs(container),
            interval=1,
        )
        return engine.docker("exec", container, "python3", "-c", ask).strip()
    finally:
        engine.docker("rm", "--force", container)


def test_an_image_that_never_becomes_healthy_is_left_before_a_client_notices(
    composed: Composed, rollouts: RolloutProcess
) -> None:
    before = sorted(images_of(composed))

    def roll_out() -> None:
        rollouts.kill()
        publish(rollouts, "v3", 2)
        break_the_next_image(composed, rollouts)
        rollouts.start()
        back = rollouts.wait(2, ROLLOUT_SECONDS)
        assert (back.phase, back.cause) == ("rolled_back", "losses")

    assert not during(composed, roll_out).failures
    assert sorted(images_of(composed)) == before


def break_the_next_image(composed: Composed, rollouts: RolloutProcess) -> None:
    """Build an image that ends at once, under the name that the next rollout's image will have."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in rollouts.environment.items():
            patch.setenv(name, value)
        settings = SyncSettings()
        name = make_images(settings, DockerClient()).name({"sentiment": "v3"}).name
    composed.engine.docker("build", "--tag", name, "-", data=b'FROM bunriwiki\nENTRYPOINT ["false"]\n')


def test_a_killed_process_is_continued_by_the_next_one(composed: Composed, rollouts: RolloutProcess) -> None:
    def roll_out() -> None:
        publish(rollouts, "v4", 1)
        for step in ("building", "trying", "rolling"):
            wait_until(partial(is_at, rollouts, step), ROLLOUT_SECONDS, interval=0.2)
            rollouts.kill()
            rollouts.start()
        assert rollouts.wait(3, ROLLOUT_SECONDS).phase == "done"

    assert not during(composed, roll_out).failures
    assert len(images_of(composed)) == REPLICAS
    trials = composed.engine.docker("ps", "--all", "--quiet", "--filter=label=bunriwiki.rollout.trial")
    assert not trials.strip()


def is_at(rollouts: RolloutProcess, step: str) -> bool:
    """Whether the third rollout is at a step, or beyond it."""
    current = State.read(rollouts.layout.rollout_state).current
    return current is not None and current.number == 3 and current.phase in (step, "rolling", "done")
