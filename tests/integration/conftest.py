"""Servers to test: the real `bentoml serve`, from the environment that serves in production."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.writer import StoreWriter, open_writer
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.reference_sets import small_reference_sets
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import make_version

FULL = os.environ.get("BUNRIWIKI_PROOF") == "full"
# Seconds between an answer and the client's next request, where a load shows that no request fails. In the short form it leaves
# the cores to what happens under the load, which then takes a fraction of the time.
PAUSE_SECONDS = 0.0 if FULL else 0.2


def within(seconds: float) -> float:
    """The limit of what should take at most `seconds`: in the short form, beside other tests, it only ends what hangs."""
    return seconds if FULL else max(seconds, 60.0)


ROTATIONS = {"v1": 1, "v2": 2, "v3": 3}  # of the names of the classes, by version


# The files that take longest, by `python -m tests.times`. They run first: no worker is left with one of them at the end.
# Of those that run beside each other, one at most loads the service without pauses.
LONGEST = [
    f"test_{name}.py"
    for name in (
        "monitoring", "sync", "operator_commands", "rollout", "back_to_fallback", "sync_rejections", "quality",
        "swaps_and_kills", "sync_faults", "prediction_metrics", "grpc",
    )
]  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not FULL and (left_out := [item for item in items if item.get_closest_marker("full_form")]):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
        if "containers" in item.path.parts:
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers, waits until they are ready, and stops those that are still running when the module ends.

    A server without requests uses two to three percent of a core.
    """
    servers: list[Server] = []

    def starter(**options: object) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server") / "log", **options))  # type: ignore[arg-type]
        servers[-1].wait_until_ready()
        return servers[-1]

    yield starter
    for server in servers:
        server.terminate()
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default settings, and gRPC. All tests that leave it as they found it share it."""
    shared = Server(tmp_path_factory.mktemp("server") / "log", grpc=True)
    try:
        shared.wait_until_ready()
        yield shared
    finally:
        shared.stop()


@dataclass(frozen=True)
class Bento:
    """The repository as a Bento, in a Bento store of its own."""

    home: Path
    tag: str

    @property
    def environment(self) -> dict[str, str]:
        return {"BENTOML_HOME": str(self.home)}


@pytest.fixture(scope="session")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Bento:
    """The result of `bentoml build`."""
    home = tmp_path_factory.mktemp("bentoml")
    build = [str(SERVE_ENV / "bin" / "bentoml"), "build", "--output", "tag"]
    environment = {**os.environ, "BENTOML_HOME": str(home)}
    built = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return Bento(home, built.stdout.strip().removeprefix("__tag__:"))


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of every model, whose class names are rotated by ROTATIONS."""
    root = tmp_path_factory.mktemp("versions")
    for model in MODELS:
        for version, rotation in ROTATIONS.items():
            make_version(model, version, rotation, root / model / version)
    return root


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a sidecar in tests of the way that a version takes: small reference sets in the short form."""
    return {} if FULL else {"BUNRIWIKI_REFERENCE": str(small_reference_sets(tmp_path_factory.mktemp("reference")))}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, versions: Path) -> Iterator[StoreWriter]:
    """A store with all of `versions`, none of which serves."""
    with open_writer(tmp_path_factory.mktemp("store") / "store", "a test") as writer:
        for model in MODELS:
            for version in ROTATIONS:
                writer.publish(versions / model / version, "a test", "operator")
        yield writer


@pytest.fixture(scope="module")
def pair(start: Callable[..., Server], store: StoreWriter) -> Iterator[Server]:
    """A server with two workers per runner that serves from `store`. The tests of a module share both."""
    root = str(store.layout.root)
    server = start(environment={"BUNRIWIKI_RUNNER_WORKERS": "2", "BUNRIWIKI_MODEL_STORE": root})
    server.wait_for_all_workers()
    yield server
    server.stop()
