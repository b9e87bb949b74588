"""An image with the serving versions, rolled out to replicas of the service behind the edge, under load.

The writer of the store is the test, and the rollout's process runs on this machine; both reach what they reach in a container.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.flood import Flood, flood
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.rollout import RolloutProcess, Versions, rollout_process
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.comparison import Figures
from model_sync.rollout.engine import PORT
from model_sync.rollout_process import REPOSITORY
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import REPLICAS, Start, during

ROLLOUT_SECONDS = 900.0 if FULL else 420.0
# Of clients in Python: they leave something of two cores to the replica that starts, and in the full form to the flood.
LOAD = {"rest": 2, "grpc_clients": 1, "pause": 0.1} if FULL else {"rest": 4, "grpc_clients": 1}
WANTED_PER_SECOND = 400


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


@pytest.fixture(scope="module")
def versions(rollouts: RolloutProcess, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(rollouts.layout, tmp_path_factory.mktemp("versions"))


def images_of(composed: Composed) -> list[str]:
    return [str(composed.inspect(container)["Config"]["Image"]) for container in composed.containers("service")]


def test_a_rolling_rebuild_fails_no_request(
    composed: Composed, rollouts: RolloutProcess, versions: Versions, tmp_path: Path
) -> None:
    before = set(composed.containers("service"))

    def roll_out() -> None:
        version = versions.publish()
        done = rollouts.wait(1, ROLLOUT_SECONDS)
        assert done.phase == "done", done.reason
        assert done.new.versions == {"sentiment": version}

    reviews = [call for call in mixed_calls() if call.path == "/predict"]
    with flood(composed.url, reviews, tmp_path) if FULL else nullcontext(Flood()) as flooded:
        assert not during(composed, roll_out, **LOAD).failures
    assert flooded.failures == {}
    if FULL:
        print(f"texts by wrk: {flooded.summary()}; {WANTED_PER_SECOND} per second are wanted, where the machine gives them")
    after = set(composed.containers("service"))
    assert len(after) == REPLICAS
    assert not after & before
    [image] = set(images_of(composed))
    assert image.startswith(f"{REPOSITORY}:")
    metrics = httpx.get(f"http://{composed.addresses('service')['serving']}:{PORT}/metrics", trust_env=False)
    figures = Figures.parse(metrics.text)  # what replicas are compared by
    assert figures.answers > 0
    assert figures.models == {"kcbert", "sentiment", "yolo"}
    assert answer_without_anything(composed, image) == "v1"


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
