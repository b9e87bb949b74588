"""Registries that are down, slow, wrong: serving goes on, the state says what is wrong, and it heals by itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import Way
from tests.integration.conftest import FULL, Server
from tests.mlflow_models import Registrar
from tests.probe import Probe, probing
from tests.published import compiled, pyfunc
from tests.registries import MlflowServer, SeaweedFS
from tests.sidecar import Publisher, Sidecar, s3_environment

DOWN = 60.0 if FULL else 3.0  # seconds
HEALED = 60.0


@dataclass
class Everything:
    s3: Publisher
    way: Way
    mlflow: MlflowServer
    registrar: Registrar
    sidecar: Sidecar
    server: Server
    probe: Probe


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    root = tmp_path_factory.mktemp("faults")
    with SeaweedFS(root / "s3") as s3, MlflowServer(root / "mlflow") as mlflow:
        publisher, registrar, way = Publisher(s3), Registrar(mlflow.url), Way(s3.port)
        publisher.publish("kcbert", "v0", compiled("kcbert", root / "v0", "v0"))
        registrar.register(pyfunc(root / "sentiment"), "champion")
        registries = {
            **s3_environment(s3),
            "AWS_ENDPOINT_URL_S3": way.url,
            "MLFLOW_TRACKING_URI": mlflow.url,
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "1",
            "BUNRIWIKI_MIN_DOWNLOAD_KB_PER_SECOND": "64",
            "BUNRIWIKI_SOURCES": "kcbert=s3 sentiment=mlflow",
        }
        sidecar = Sidecar(root / "store", root / "sidecar.log", registries)
        server = Server(root / "server.log", environment={"BUNRIWIKI_MODEL_STORE": str(root / "store"), **registries})
        try:
            sidecar.start()
            server.wait_until_ready()
            sidecar.wait(lambda: sidecar.serving("kcbert") == "v0" and sidecar.serving("sentiment") == "1")
            with probing(server.url) as probe:
                yield Everything(publisher, way, mlflow, registrar, sidecar, server, probe)
        finally:
            sidecar.stop()
            server.stop()
            way.close()


def degraded(everything: Everything, model: str, saying: str) -> None:
    """`/v1/models` comes to say what is wrong."""

    def told() -> bool:
        state = everything.server.model(model)
        return state["degraded"] and any(saying in reason for reason in state["reasons"])

    everything.sidecar.wait(told, 60)


def heals(everything: Everything, model: str, version: str) -> None:
    """The version that was published meanwhile serves; nothing is wrong any more, and no request failed."""
    everything.server.wait_until_it_serves(model, version, workers=1, seconds=HEALED)
    everything.sidecar.wait(lambda: not everything.server.model(model)["degraded"])
    assert set(everything.probe.counts) == {"200"}
    assert everything.sidecar.events("quarantined") == []


Fault = Callable[[Way], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("version", "fault", "saying"),
    [
        ("v1", lambda way: way.closed(), "cannot be reached"),
        ("v2", lambda way: way.answering(500, "InternalError"), "500"),
        ("v3", lambda way: way.answering(403, "RequestTimeTooSkewed"), "clock"),
        ("v4", lambda way: way.answering(400, "ExpiredToken"), "expired"),
    ],
    ids=["unreachable", "500s", "a wrong clock", "expired credentials"],
)
def test_s3_that_cannot_be_used(everything: Everything, tmp_path: Path, version: str, fault: Fault, saying: str) -> None:
    with fault(everything.way):
        everything.s3.publish("kcbert", version, compiled("kcbert", tmp_path / version, version))
        degraded(everything, "kcbert", saying)
        time.sleep(DOWN)
        assert everything.sidecar.serving("kcbert") != version
    heals(everything, "kcbert", version)


def test_an_s3_that_trickles(everything: Everything, tmp_path: Path) -> None:
    version = everything.server.model("kcbert")["serving"]
    with everything.way.trickling():
        everything.s3.publish("kcbert", "v5", compiled("kcbert", tmp_path / "v5", "v5"))
        everything.sidecar.wait(lambda: (state := everything.sidecar.state("kcbert")) and state.phase == "fetch", 60)
        everything.sidecar.wait(lambda: "B/s" in everything.sidecar.log() or "bytes/s" in everything.sidecar.log(), 60)
        assert everything.server.model("kcbert")["serving"] == version
    heals(everything, "kcbert", "v5")


def test_an_mlflow_that_dies_and_comes_back(everything: Everything, tmp_path: Path) -> None:
    version = everything.registrar.register(pyfunc(tmp_path / "pyfunc", note="while it is down"))
    everything.mlflow.kill()
    degraded(everything, "sentiment", "MLflow")
    time.sleep(DOWN)
    everything.mlflow.start()
    everything.registrar.client.set_registered_model_alias(everything.registrar.name, "champion", version)
    heals(everything, "sentiment", version)


def test_a_disk_that_is_full_while_downloading(tmp_path: Path) -> None:
    """The store lies on a small disk of its own: a tmpfs that only the sidecar's namespace has."""
    store = tmp_path / "store"
    store.mkdir()
    with SeaweedFS(tmp_path / "s3") as s3:
        publisher = Publisher(s3)
        environment = {
            **s3_environment(s3),
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "1",
            "BUNRIWIKI_SOURCES": "kcbert=s3",
            "BUNRIWIKI_IMPORT_RESERVE_MB": "8",
        }
        sidecar = SmallDisk(store, tmp_path / "log", environment)
        publisher.publish("kcbert", "v1", compiled("kcbert", tmp_path / "v1", "v1"))
        sidecar.start()
        try:
            sidecar.wait(lambda: sidecar.told().get("status") == "failed")
            assert "kcbert v1 needs" in sidecar.told()["reason"]
            assert "make room" in sidecar.told()["reason"]
            sidecar.filler.unlink()
            sidecar.wait(lambda: sidecar.told().get("status") == "promoted" or sidecar.told().get("status") == "unchanged")
            assert sidecar.told()["version"] == "v1"
        finally:
            sidecar.stop()


class SmallDisk(Sidecar):
    """A sidecar whose store is a disk of 160 MB, all but 40 of them taken."""

    def start(self) -> Sidecar:
        room = f"mount -t tmpfs -o size=160m none {self.layout.root} && head -c 120m /dev/zero > {self.layout.root}/filler"
        with self._log.open("ab") as stream:
            self.process = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{room} && exec "$@"', "sh", *self.command],
                cwd=Path(__file__).parent.parent.parent,
                env={**os.environ, **self._environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return self

    @property
    def filler(self) -> Path:
        assert self.process
        return Path(f"/proc/{self.process.pid}/root{self.layout.root}/filler")

    def told(self) -> dict[str, Any]:
        try:
            return dict(httpx.get(f"{self.url}/state", timeout=5).json()["models"]["kcbert"])
        except httpx.TransportError:
            return {}
