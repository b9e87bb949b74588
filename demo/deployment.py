"""Everything that the demo needs, in processes of its own: started, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

from bunriwiki.testing.probe import Probe, probing
from bunriwiki.testing.registries import Registries, running_registries
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import SECRET, TOKEN, Sidecar
from bunriwiki.testing.versions import compiled, pyfunc

WORKERS = 2  # per runner
CLIENTS = 4
EVERY = 0.1  # seconds between an answer and the client's next request
ROLLBACK_SECONDS = 60.0
SETTINGS = ("AWS_", "BUNRIWIKI_", "MLFLOW_")  # prefixes of variables that configure the user's own service


@dataclass
class Deployment:
    """All that runs, and what a data scientist and an operator do with it. `load` has a probe per client."""

    folder: Path
    registries: Registries
    sidecar: Sidecar
    server: Server
    load: list[Probe] = field(default_factory=list)

    def publish(self, model: str, version: str, *, rotation: int = 0) -> None:
        """Publish to the bucket, and send the message that S3 sends; `rotation` mixes up the names of the classes."""
        folder = self.folder / "published" / model / version
        self.registries.s3.publish(model, version, compiled(model, folder, version, rotation=rotation))
        self.registries.notify()

    def register(self, note: str) -> str:
        """Register a sentiment model with `note` in its code as champion; its number. MLflow calls the webhook."""
        return self.registries.mlflow.register(pyfunc(self.folder / "published" / "sentiment" / note, note=note), "champion")

    def roll_back(self, model: str) -> dict[str, Any]:
        """Roll back to the version that served before; the sidecar's answer."""
        answer = httpx.post(
            f"{self.sidecar.url}/models/{model}/rollback",
            json={},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=ROLLBACK_SECONDS,
        )
        return dict(answer.raise_for_status().json())


@contextmanager
def deployed(report: Callable[[str], None]) -> Iterator[Deployment]:
    """A deployment that has begun to import the first version of each model; `report` is called with what is being started.

    At the end all its processes have ended, and its folder is deleted.
    """
    _clear_user_settings()
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bunriwiki-demo-", ignore_cleanup_errors=True)))
            registries = stack.enter_context(running_registries(folder, report))
            variables = {
                **registries.environment,
                "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",  # the notifications trigger what the demo shows
            }
            sidecar = Sidecar(folder / "store", folder / "sidecar.log", variables)
            for model in ("kcbert", "yolo"):
                registries.s3.publish(model, "v1", compiled(model, folder / "published" / model / "v1"))
            registries.mlflow.register(pyfunc(folder / "published" / "sentiment" / "first"), "champion")
            registries.mlflow.add_webhook(
                f"{sidecar.url}/webhooks/mlflow",
                SECRET,
                WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED),
            )
            report("the sidecar and the service")
            stack.callback(_end, sidecar)
            sidecar.start()
            service = {"BUNRIWIKI_RUNNER_WORKERS": str(WORKERS), "BUNRIWIKI_LOG_REQUESTS": "false", **variables}
            server = Server(folder / "server.log", environment=service)
            stack.callback(server.stop)
            yield Deployment(folder, registries, sidecar, server)
        finally:  # cleaning up takes seconds, and must not be interrupted
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def under_load(deployment: Deployment) -> Iterator[None]:
    """Clients that send requests to all models as long as the block lasts."""
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            deployment.load.append(stack.enter_context(probing(deployment.server.url, EVERY)))
        yield


def _end(sidecar: Sidecar) -> None:
    try:
        sidecar.stop()
    except subprocess.TimeoutExpired:
        sidecar.kill()


def _clear_user_settings() -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS) or name == "PORT"]:
        del os.environ[name]
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # it would write across the screen
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
