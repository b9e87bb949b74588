"""A rollback when it matters: by the command line, with every registry down, to the last worker; and what follows.

The real service with two workers per runner, and the real sidecar. A registry is a folder, the other an S3 that is unreachable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.generation import Generations, ModelGeneration
from bunriwiki.testing.aws import CREDENTIALS
from bunriwiki.testing.load import background_load
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN, Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import BUNDLED_VERSION, compiled
from model_sync.cli.exits import Exit
from model_sync.sources.local import LocalSource
from tests.integration.conftest import PAUSE_SECONDS, within

MAX_SECONDS = within(15)  # from the command to the last worker; on an idle machine it takes less than 5


@dataclass
class Deployment:
    """All that runs."""

    root: Path
    registry: Path
    environment: dict[str, str]
    sidecar: Sidecar
    server: Server

    def take_registry_down(self) -> None:
        """Make the folder unreadable, as when its mount is gone."""
        (self.registry / "gone").symlink_to(self.root / "nowhere")

    def bring_registry_back(self) -> None:
        (self.registry / "gone").unlink()

    def command(self, *line: str) -> tuple[int, dict[str, Any]]:
        """Run a command as an operator does; its exit code and its output."""
        environment = {**os.environ, "BUNRIWIKI_SYNC_URL": self.sidecar.url, "BUNRIWIKI_ADMIN_TOKEN": TOKEN}
        done = subprocess.run(
            [sys.executable, "-m", "model_sync", *line, "--json"], cwd=ROOT, env=environment, capture_output=True, check=False
        )
        return done.returncode, json.loads(done.stdout)

    def generation(self) -> ModelGeneration:
        return Generations.read(self.sidecar.layout.generation).of("kcbert")

    def restart(self) -> None:
        self.server.stop()
        self.sidecar.stop()
        self.sidecar.start()
        self.server = Server(self.root / "again.log", environment=self.environment)
        self.server.wait_until_ready()


def publish(registry: Path, version: str) -> Path:
    """Publish a version as a data scientist does; its folder."""
    compiled("kcbert", registry.parent / version, version)
    (registry.parent / version).rename(registry / version)
    os.utime(registry / version)
    return registry / version


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("rollback")
    registry = root / "registry"
    registry.mkdir()
    for version in ("v1", "v2"):
        folder = publish(registry, version)
        serve_from_store(root / "store", folder, LocalSource({"kcbert": registry}).newest("kcbert"))
    environment = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}",
        "BUNRIWIKI_S3_URI": "s3://models/registry",
        "BUNRIWIKI_SOURCES": f"kcbert=local:{registry} yolo=s3",
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_GATE_LATENCY_RATIO": "100",  # all versions are the same model: only a busy machine could reject one
    }
    sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
    deployment = Deployment(root, registry, environment, sidecar, Server(root / "server.log", environment=environment))
    try:
        sidecar.start()
        sidecar.wait_for_status("kcbert", "unchanged", "v2")
        deployment.server.wait_until_ready()
        deployment.server.wait_until_serving("kcbert", "v2")
        yield deployment
    finally:
        sidecar.stop()
        deployment.server.stop()


def test_a_rollback_needs_no_registry_and_takes_seconds(deployment: Deployment) -> None:
    deployment.take_registry_down()
    found = deployment.sidecar.sync("kcbert", "yolo")["outcomes"]
    assert {outcome["status"] for outcome in found.values()} == {"unreachable"}
    with background_load(deployment.server.url, clients=2, pause=PAUSE_SECONDS) as outcome:
        began = time.monotonic()
        code, done = deployment.command("rollback", "kcbert")
        deployment.server.wait_until_serving("kcbert", "v1")
        took = time.monotonic() - began
    print(f"from the command to the last of two workers: {took:.1f} s, {done['seconds']} s of them in the sidecar")
    assert (code, done["from"], done["to"], done["workers"]) == (Exit.DONE, "v2", "v1", 2)
    assert took < MAX_SECONDS
    assert set(outcome.counts) == {"200"}
    generation = deployment.generation()
    assert (generation.previous, generation.held) == (None, ("v2",))  # v2 is no last known good version


def test_a_start_with_the_registries_down_serves_the_last_known_good_version(deployment: Deployment) -> None:
    deployment.restart()
    state = deployment.server.model("kcbert")
    assert (state["serving"]["version"], state["sync"]["status"]) == ("v1", "unreachable")
    deployment.server.wait_until_serving("kcbert", "v1")
    assert deployment.server.serving("yolo") == BUNDLED_VERSION  # no version of it was ever published


def test_ten_syncs_do_not_undo_it(deployment: Deployment) -> None:
    deployment.bring_registry_back()
    for _ in range(10):
        found = deployment.sidecar.sync("kcbert")["outcomes"]["kcbert"]
        assert (found["status"], found["version"]) == ("held", "v2")
    assert deployment.sidecar.serving("kcbert") == "v1"
    deployment.server.wait_until_serving("kcbert", "v1")


def test_a_newer_version_does(deployment: Deployment) -> None:
    publish(deployment.registry, "v3")
    code, done = deployment.command("sync", "kcbert")
    assert (code, done["outcomes"]["kcbert"]["status"]) == (Exit.DONE, "promoted")
    deployment.server.wait_until_serving("kcbert", "v3")
    generation = deployment.generation()
    assert generation.previous
    assert (generation.previous.version, generation.held) == ("v1", ())
    code, status = deployment.command("status")
    [kcbert] = [state for state in status["models"] if state["name"] == "kcbert"]
    assert [worker["serving"] for worker in kcbert["workers"]] == ["v3", "v3"]
