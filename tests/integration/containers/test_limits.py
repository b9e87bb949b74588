"""A service in a container with one core and 1 GB: it follows these limits, says so, and rejects what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.model_store.promotion import CannotLoadError, promote
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.containers.engine import DockerError, Engine
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.versions import compiled
from bunriwiki.testing.waiting import wait_until

START_SECONDS = 180
PADDING_BYTES = 400 * 2**20  # of a version that takes more than 1 GB in memory
SETTINGS = """
import json
from bunriwiki.settings import settings
found = settings()
print(json.dumps([found.threads, found.gateway_workers, found.runner_workers, found.max_rss_mb]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the container's user may read, with `run/`, which it may write."""
    folder = tmp_path_factory.mktemp("store")
    for path, mode in ((folder.parent, 0o755), (folder, 0o755), (folder / "run", 0o777)):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    return folder


@pytest.fixture(scope="module")
def container(engine: Engine, images: Images, store: Path) -> Iterator[str]:
    limits = ("--memory=1g", "--memory-swap=1g", "--cpus=1", "--read-only", "--tmpfs=/tmp")
    volumes = (f"--volume={store}:/store:ro", f"--volume={store / 'run'}:/store/run")
    name = engine.docker("run", "--detach", *limits, *volumes, images.build("service")).strip()
    wait_until(lambda: is_ready(engine, name), START_SECONDS, lambda: engine.logs(name), interval=0.5)
    yield name
    print(engine.logs(name))
    engine.docker("rm", "--force", name)


def is_ready(engine: Engine, name: str) -> bool:
    try:
        engine.docker("exec", name, "python3", "-m", "bunriwiki.container.health", "/readyz")
    except DockerError:
        return False
    return True


def test_it_says_that_it_has_little_memory(engine: Engine, container: str) -> None:
    [line, *_] = [line for line in engine.logs(container).splitlines() if "this container has" in line]
    assert "1024 MB" in line


def test_threads_workers_and_memory_follow_the_limits(engine: Engine, container: str) -> None:
    assert json.loads(engine.docker("exec", container, "python3", "-c", SETTINGS)) == [1, 1, 1, 512]


def test_a_version_that_does_not_fit_is_rejected_with_the_reason(
    engine: Engine, container: str, store: Path, tmp_path: Path
) -> None:
    large = compiled("kcbert", tmp_path / "large", "large")
    with (large / "padding.bin").open("wb") as stream:
        stream.truncate(PADDING_BYTES)
    Manifest.read(large).model_copy(update={"files": describe_files(large)}).write(large)
    with open_writer(store, "a test") as writer:
        writer.publish(large, "a test", "operator")
        with pytest.raises(CannotLoadError, match=r"large needs about \d+ MB beside the serving version, and \d+ MB of this"):
            promote(writer, "kcbert", "large", "a test", "operator")
    assert is_ready(engine, container)
    [state] = json.loads(engine.docker("inspect", container))
    assert not state["State"]["OOMKilled"]
