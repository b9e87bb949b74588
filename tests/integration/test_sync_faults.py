"""Registries that are down, slow or wrong: serving continues, the status reports what is wrong, and the sidecar recovers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.fault_proxy import FaultProxy
from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.probe import Probe, probing
from bunriwiki.testing.publisher import Publisher, s3_environment
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import IMPORT_SECONDS, TOKEN, Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import compiled, pyfunc
from tests.integration.conftest import FULL

DOWN = 60.0 if FULL else 3.0  # seconds, with a sync each second
MAX_SECONDS = 60.0 if FULL else IMPORT_SECONDS  # until a version that was published meanwhile serves


@dataclass
class Deployment:
    """A service with a sidecar that reaches S3 through a proxy, under load since it was ready."""

    s3: Publisher
    proxy: FaultProxy
    mlflow: MlflowServer
    registrar: Registrar
    sidecar: Sidecar
    server: Server
    probe: Probe


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, reference: dict[str, str]) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("faults")
    with SeaweedFS(root / "s3") as s3, MlflowServer(root / "mlflow") as mlflow:
        publisher, registrar, proxy = Publisher(s3), Registrar(mlflow.url), FaultProxy(s3.port)
        publisher.announce()
        for model in ("kcbert", "sentiment"):
            serve_from_store(root / "store", compiled(model, root / "v0" / model, "v0"))
        registries = {
            **s3_environment(s3),
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "MLFLOW_TRACKING_URI": mlflow.url,
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "1",
            "BUNRIWIKI_MIN_DOWNLOAD_KB_PER_SECOND": "64",
            "BUNRIWIKI_SOURCES": "kcbert=s3 sentiment=mlflow",
            "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
            **reference,
        }
        sidecar = Sidecar(root / "store", root / "sidecar.log", registries)
        server = Server(root / "server.log", environment={"BUNRIWIKI_MODEL_STORE": str(root / "store"), **registries})
        try:
            sidecar.start()
            server.wait_until_ready()
            for model in ("kcbert", "sentiment"):
                server.wait_until_serving(model, "v0", workers=1)
                sidecar.wait_for_status(model, "unchanged")
            with probing(server.url, every=0.2) as probe:
                yield Deployment(publisher, proxy, mlflow, registrar, sidecar, server, probe)
        finally:
            sidecar.stop()
            server.stop()
            proxy.close()


def becomes_degraded(deployment: Deployment, model: str, reason: str) -> None:
    """`/v1/models` comes to report the model as degraded, for `reason`."""

    def reported() -> bool:
        state = deployment.server.model(model)
        return state["degraded"] and any(reason in text for text in state["reasons"])

    deployment.sidecar.wait(reported, 60)


def recovers(deployment: Deployment, model: str, version: str) -> None:
    """The version that was published meanwhile serves, the model is no longer degraded, and no request failed."""
    deployment.server.wait_until_serving(model, version, workers=1, seconds=MAX_SECONDS)
    deployment.sidecar.wait(lambda: not deployment.server.model(model)["degraded"])
    assert set(deployment.probe.counts) == {"200"}
    assert deployment.sidecar.events("quarantined") == []


Fault = Callable[[FaultProxy], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("version", "fault", "reason"),
    [
        ("v1", lambda proxy: proxy.closed(), "cannot be reached"),
        ("v2", lambda proxy: proxy.answering(500, "InternalError"), "500"),
        ("v3", lambda proxy: proxy.answering(403, "RequestTimeTooSkewed"), "clock"),
        ("v4", lambda proxy: proxy.answering(400, "ExpiredToken"), "expired"),
    ],
    ids=["unreachable", "internal errors", "a wrong clock", "expired credentials"],
)
def test_s3_that_cannot_be_used(deployment: Deployment, tmp_path: Path, version: str, fault: Fault, reason: str) -> None:
    with fault(deployment.proxy):
        deployment.s3.publish("kcbert", version, compiled("kcbert", tmp_path / version, version))
        becomes_degraded(deployment, "kcbert", reason)
        time.sleep(DOWN)
        assert deployment.sidecar.serving("kcbert") != version
    recovers(deployment, "kcbert", version)


def test_a_slow_s3(deployment: Deployment, tmp_path: Path) -> None:
    version = deployment.server.serving("kcbert")
    with deployment.proxy.slow():
        deployment.s3.publish("kcbert", "v5", compiled("kcbert", tmp_path / "v5", "v5"))
        deployment.sidecar.wait(lambda: (state := deployment.sidecar.state("kcbert")) and state.phase == "fetch", 60)
        deployment.sidecar.wait(lambda: "B/s" in deployment.sidecar.log() or "bytes/s" in deployment.sidecar.log(), 60)
        assert deployment.server.serving("kcbert") == version
    recovers(deployment, "kcbert", "v5")


def test_an_mlflow_that_dies_and_comes_back(deployment: Deployment, tmp_path: Path) -> None:
    version = deployment.registrar.register(pyfunc(tmp_path / "pyfunc", note="while it is down"))
    deployment.mlflow.kill()
    becomes_degraded(deployment, "sentiment", "MLflow")
    time.sleep(DOWN)
    deployment.mlflow.start()
    deployment.registrar.client.set_registered_model_alias(deployment.registrar.name, "champion", version)
    recovers(deployment, "sentiment", version)


def test_a_disk_that_is_full_while_downloading(tmp_path: Path) -> None:
    """The store is on a small disk of its own: a tmpfs that exists in the sidecar's namespace only."""
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
            failed = sidecar.wait(lambda: sidecar.reported("failed"))
            assert "kcbert v1 needs" in failed["reason"]
            assert "make room" in failed["reason"]
            sidecar.filler.unlink()
            assert sidecar.wait(lambda: sidecar.reported("promoted", "unchanged"))["version"] == "v1"
        finally:
            sidecar.stop()


class SmallDisk(Sidecar):
    """A sidecar whose store is a disk of 160 MB, of which 40 MB are free."""

    def command(self) -> list[str]:
        mount = f"mount -t tmpfs -o size=160m none {self.layout.root} && head -c 120m /dev/zero > {self.layout.root}/filler"
        shell = ["sh", "-c", f'{mount} && exec "$@"', "sh"]
        return ["unshare", "--user", "--map-root-user", "--mount", *shell, *super().command()]

    @property
    def filler(self) -> Path:
        """The file that takes the space, as this process sees it."""
        assert self.process
        return Path(f"/proc/{self.process.pid}/root{self.layout.root}/filler")

    def reported(self, *statuses: str) -> dict[str, Any]:
        """The reported state of kcbert if it has one of `statuses`; else empty."""
        try:
            answer = CLIENT.get(f"{self.url}/state", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        except httpx.TransportError:
            return {}
        state: dict[str, Any] = answer.json()["models"]["kcbert"]
        return state if state["status"] in statuses else {}
