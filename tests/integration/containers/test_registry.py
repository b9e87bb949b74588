"""Profiles `registry` and `monitoring`: published versions go live under load, and what is down is not noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from cryptography.fernet import Fernet
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

from bunriwiki.testing.aws import CREDENTIALS, client_arguments
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.port_scan import open_ports, reached
from bunriwiki.testing.containers.traffic import traffic
from bunriwiki.testing.publisher import Publisher, notification
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.versions import compiled, pyfunc
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import PAUSE_SECONDS, Start

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PROMOTIONS = 10 if FULL else 1  # of each model
# From publishing to serving: 15 to 25 s each in the short form. The full form sends as fast as it can, and the sidecar, which
# has a quarter of the service's weight, gets what is left of two cores.
IMPORT_SECONDS = 300.0
TOKEN = "a-token-for-tests"  # noqa: S105 (a word, no secret)
SECRET = "a-secret-for-tests"  # noqa: S105
QUEUE = "http://sqs:5000/123456789012/models"
SETTINGS = {
    **CREDENTIALS,
    "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
    "BUNRIWIKI_WEBHOOK_SECRET": SECRET,
    "BUNRIWIKI_S3_URI": "s3://models/registry",
    "BUNRIWIKI_SQS_QUEUE_URL": QUEUE,
    "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",  # only notifications trigger a sync
    "BUNRIWIKI_MONITOR_SECONDS": "5",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "GRAFANA_ADMIN_PASSWORD": "a-password-for-tests",
}
# All but Grafana: no package has it.
SERVICES = ("service", "edge", "model-sync", "s3", "sqs", "mlflow", "prometheus", "alertmanager", "tensorboard")
IMAGES = ("EDGE_IMAGE", "S3_IMAGE", "SQS_IMAGE", "PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE")
# docs/containers.md has this table.
PORTS = {
    "control": {"service": [3000, 3001, 3003], "model-sync": [3002]},
    "registry": {"model-sync": [3002], "s3": [8333, 18333], "sqs": [5000], "mlflow": [5000]},
    "scrape": {"edge": [3000, 9902], "service": [3000, 3001, 3003], "model-sync": [3002], "prometheus": [9090]},
    "dashboards": {"prometheus": [9090], "alertmanager": [9093]},
    "training": {"tensorboard": [6006], "s3": [8333, 18333]},
}


class Deployment:
    """The composed project with clients of its registries."""

    BUCKET = "models"

    def __init__(self, project: Composed) -> None:
        self.project = project
        self.s3 = Publisher(self)
        self.sqs = boto3.client("sqs", **client_arguments(self._url("SQS_PORT")))
        self.mlflow = Registrar(self._url("MLFLOW_PORT"))

    def client(self) -> S3Client:
        return boto3.client("s3", **client_arguments(self._url("S3_PORT")))

    def notify(self) -> None:
        """Send the message that S3 sends when `latest_model.yaml` was written."""
        queue = self.sqs.get_queue_url(QueueName="models")["QueueUrl"]
        self.sqs.send_message(QueueUrl=queue, MessageBody=notification(self.BUCKET))

    def serving(self) -> dict[str, str | None]:
        """The version of each model that the store names, or the bundled one."""
        models: list[dict[str, Any]] = httpx.get(f"{self.project.url}/v1/models", timeout=10).json()["models"]
        return {model["name"]: model["serving"]["version"] if model["serving"] else None for model in models}

    def answers(self, path: str) -> str:
        """The version that answers a text."""
        response = httpx.post(f"{self.project.url}{path}", json={"text": "정말 재미있어요"}, timeout=30)
        return response.headers["X-Model-Version"]

    def _url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.project.ports[port]}"


@pytest.fixture(scope="module")
def deployment(compose: Start, images: Images) -> Iterator[Deployment]:
    images.build("service")
    images.build("model-sync")
    environment = {**SETTINGS, "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode()}
    project = compose(*IMAGES, profiles=("registry", "monitoring"), environment=environment)
    began = time.monotonic()
    project.up(*SERVICES)
    print(f"registry and monitoring healthy after {time.monotonic() - began:.1f} s")
    found = Deployment(project)
    found.sqs.create_queue(QueueName="models")
    found.mlflow.add_webhook(
        "http://model-sync:3002/webhooks/mlflow", SECRET, WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)
    )
    yield found
    print(project.logs("model-sync", "service", "mlflow"))


def test_every_container_is_healthy_and_none_is_root(deployment: Deployment) -> None:
    project = deployment.project
    for name in SERVICES:
        [container] = project.containers(name)
        assert project.health(container) == "healthy", name
        assert project.inspect(container)["HostConfig"]["ReadonlyRootfs"], name
        users = project.engine.docker("top", container, "-eo", "uid,pid").splitlines()[1:]
        assert "0" not in {line.split()[0] for line in users}, name


def test_port_scans_find_what_the_documentation_lists(deployment: Deployment, engine: Engine) -> None:
    """A container that its engine or its parent starts again, as TensorBoard when S3 has failed, gets the time to listen."""
    project = deployment.project

    def scans() -> dict[str, dict[str, list[int]]]:
        found = {network: open_ports(engine, f"{project.project}_{network}", "bunriwiki") for network in PORTS}
        return {
            network: {name.removeprefix(f"{project.project}-")[:-2]: ports for name, ports in listening.items()}
            for network, listening in found.items()
        }

    wait_until(lambda: scans() == PORTS, 180, scans, interval=1)


def test_no_container_reaches_what_it_does_not_need(deployment: Deployment, engine: Engine) -> None:
    """Neither the service nor Prometheus reaches a registry. The sidecar does, so the same connections are possible."""
    project = deployment.project
    registries = (("s3", 8333), ("sqs", 5000), ("mlflow", 5000))
    places = [f"{project.addresses(name)['registry']}:{port}" for name, port in registries]
    for name, expected in (("model-sync", set(places)), ("service", set()), ("prometheus", set())):
        assert reached(engine, project.containers(name)[0], places, "bunriwiki") == expected, name


@pytest.mark.parametrize("number", range(1, PROMOTIONS + 1))
def test_published_versions_go_live_under_load(deployment: Deployment, tmp_path: Path, number: int) -> None:
    version = f"v{number}"
    with traffic(deployment.project.url, pause=PAUSE_SECONDS) as found:
        deployment.s3.publish("kcbert", version, compiled("kcbert", tmp_path / "kcbert", version))
        deployment.notify()
        wait_until(lambda: deployment.serving()["kcbert"] == version, IMPORT_SECONDS, deployment.serving, interval=0.5)
        registered = deployment.mlflow.register(pyfunc(tmp_path / "sentiment", note=version), "champion")
        wait_until(lambda: deployment.serving()["sentiment"] == registered, IMPORT_SECONDS, deployment.serving, interval=0.5)
        time.sleep(2)
    print(found.summary(), dict(found.failures))
    assert not found.failures
    assert found.grpc["OK"] > 0
    assert (deployment.answers("/kcbert/prediction"), deployment.answers("/predict")) == (version, registered)


def test_a_second_replica_starts_with_the_published_versions(deployment: Deployment) -> None:
    project = deployment.project
    project.up("--no-recreate", "--scale", "service=2", *SERVICES)
    for _ in range(10):
        assert deployment.answers("/kcbert/prediction").startswith("v")
    project.up("--no-recreate", "--scale", "service=1", *SERVICES)


def test_prometheus_scrapes_every_target(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{deployment.project.ports['PROMETHEUS_PORT']}/api/v1/targets?state=active"

    def up() -> set[str]:
        targets = httpx.get(url, timeout=5).json()["data"]["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    wait_until(lambda: {"bunriwiki-service", "bunriwiki-sidecar", "edge", "prometheus"} <= up(), 60, up, interval=1)


def test_nobody_notices_that_sidecar_and_registries_are_down(deployment: Deployment) -> None:
    project = deployment.project
    with traffic(project.url, pause=PAUSE_SECONDS) as found:
        project("kill", "model-sync", "s3", "mlflow")
        time.sleep(15 if FULL else 4)
    print(found.summary(), dict(found.failures))
    assert not found.failures
    assert httpx.get(f"{project.url}/readyz", timeout=5).status_code == 200
