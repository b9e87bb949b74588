"""Going back when it matters: by the command line, with every registry down, to the last worker; and what follows.

The real service with two workers per runner, the real sidecar. One registry is a folder, the other an S3 that is not there.
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

from benchmarks.load import free_port
from bunriwiki.model_store.generation import Generations, ModelGeneration
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from model_sync.cli.exits import Exit
from model_sync.sources.local import LocalSource
from tests.conftest import ROOT
from tests.integration.conftest import Server
from tests.integration.test_swaps_and_kills import load
from tests.published import compiled
from tests.registries import CREDENTIALS
from tests.sidecar import TOKEN, Sidecar

AT_MOST = 15.0  # seconds from the command to the last worker; 5 are meant, on a machine that does nothing else


@dataclass
class Everything:
    """All that runs."""

    root: Path
    registry: Path
    environment: dict[str, str]
    sidecar: Sidecar
    server: Server

    def take_down(self) -> None:
        """The folder cannot be read any more, as when what is mounted there is gone."""
        (self.registry / "gone").symlink_to(self.root / "nowhere")

    def bring_back(self) -> None:
        (self.registry / "gone").unlink()

    def command(self, *line: str) -> tuple[int, dict[str, Any]]:
        """What a person types."""
        environment = {**os.environ, "BUNRIWIKI_SYNC_URL": self.sidecar.url, "BUNRIWIKI_ADMIN_TOKEN": TOKEN}
        done = subprocess.run(
            [sys.executable, "-m", "model_sync", *line, "--json"], cwd=ROOT, env=environment, capture_output=True, check=False
        )
        return done.returncode, json.loads(done.stdout)

    def now(self) -> ModelGeneration:
        return Generations.read(self.sidecar.layout.generation).of("kcbert")

    def restart(self) -> None:
        self.server.stop()
        self.sidecar.stop()
        self.sidecar.start()
        self.server = _serve(self.root / "again.log", self.environment)


def publish(registry: Path, version: str) -> None:
    """What a data scientist does."""
    compiled("kcbert", registry.parent / version, version)
    (registry.parent / version).rename(registry / version)
    os.utime(registry / version)


def _serve(log: Path, environment: dict[str, str]) -> Server:
    server = Server(log, environment=environment)
    server.wait_until_ready()
    return server


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    root = tmp_path_factory.mktemp("rollback")
    registry = root / "registry"
    registry.mkdir()
    with open_writer(root / "store", "a test") as writer:  # what an earlier sidecar left
        for version in ("v1", "v2"):
            publish(registry, version)
            offer = LocalSource({"kcbert": registry}).newest("kcbert")
            assert offer
            writer.publish(registry / version, offer.uri, "poll", digest_there=offer.digest)
            promote(writer, "kcbert", version, offer.uri, "poll")
    environment = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}",
        "BUNRIWIKI_S3_URI": "s3://models/registry",
        "BUNRIWIKI_SOURCES": f"kcbert=local:{registry} yolo=s3",
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_GATE_LATENCY_RATIO": "100",  # all versions are the same model: a busy machine alone could reject one
    }
    sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
    everything = Everything(root, registry, environment, sidecar, Server(root / "server.log", environment=environment))
    try:
        sidecar.start()
        sidecar.wait_for("kcbert", "unchanged", "v2")
        everything.server.wait_until_ready()
        everything.server.wait_until_it_serves("kcbert", "v2")
        yield everything
    finally:
        sidecar.stop()
        everything.server.stop()


def test_a_rollback_needs_no_registry_and_no_patience(everything: Everything) -> None:
    everything.take_down()
    found = everything.sidecar.look("kcbert", "yolo")["outcomes"]
    assert {one["status"] for one in found.values()} == {"unreachable"}
    with load(everything.server, clients=1) as outcome:
        began = time.monotonic()
        code, done = everything.command("rollback", "kcbert")
        everything.server.wait_until_it_serves("kcbert", "v1")
        took = time.monotonic() - began
    print(f"from the command to the last of two workers: {took:.1f} s, {done['seconds']} s of them in the sidecar")
    assert (code, done["from"], done["to"], done["workers"]) == (Exit.DONE, "v2", "v1", 2)
    assert took < AT_MOST
    assert set(outcome.counts) == {"200"}
    now = everything.now()
    assert (now.previous, now.held) == (None, ("v2",))  # v2 is no last known good version


def test_a_start_with_the_registries_down_serves_the_last_known_good_version(everything: Everything) -> None:
    everything.restart()
    state = everything.server.model("kcbert")
    assert (state["serving"], state["sync"]["status"]) == ("v1", "unreachable")
    everything.server.wait_until_it_serves("kcbert", "v1")
    assert everything.server.model("yolo")["serving"] == "fallback-2"  # of which nothing was ever published


def test_ten_looks_do_not_undo_it(everything: Everything) -> None:
    everything.bring_back()
    for _ in range(10):
        found = everything.sidecar.look("kcbert")["outcomes"]["kcbert"]
        assert (found["status"], found["version"]) == ("held", "v2")
    assert everything.sidecar.serving("kcbert") == "v1"
    everything.server.wait_until_it_serves("kcbert", "v1")


def test_a_newer_version_does(everything: Everything) -> None:
    publish(everything.registry, "v3")
    code, done = everything.command("sync", "kcbert")
    assert (code, done["outcomes"]["kcbert"]["status"]) == (Exit.DONE, "promoted")
    everything.server.wait_until_it_serves("kcbert", "v3")
    now = everything.now()
    assert now.previous
    assert (now.previous.version, now.held) == ("v1", ())
    code, status = everything.command("status")
    [kcbert] = [one for one in status["models"] if one["model"] == "kcbert"]
    assert [worker["serving"] for worker in kcbert["workers"]] == ["v3", "v3"]
