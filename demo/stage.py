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
from typing import TYPE_CHECKING, Any

import httpx
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

from tests.integration.conftest import Server
from tests.mlflow_models import Registrar
from tests.probe import Probe, probing
from tests.published import compiled, pyfunc
from tests.registries import MlflowServer, SeaweedFS, SqsEmulator
from tests.sidecar import SECRET, TOKEN, Publisher, Sidecar, notification, s3_environment

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

WORKERS = 2  # per runner
CLIENTS = 4
EVERY = 0.1  # seconds between an answer and the client's next request
ROLLBACK_SECONDS = 60.0
FOREIGN = ("AWS_", "BUNRIWIKI_", "MLFLOW_")  # what configures the user's own service


@dataclass
class Stage:
    """All that runs, and what a data scientist and an operator do to it."""

    folder: Path
    s3: Publisher
    mlflow: Registrar
    sqs: SQSClient
    queue: str
    sidecar: Sidecar
    server: Server
    load: list[Probe] = field(default_factory=list)

    def publish(self, model: str, version: str, *, turn: int = 0) -> None:
        """Publish to the bucket, and send the message that S3 sends; `turn` permutes the names of the classes."""
        self.s3.publish(model, version, compiled(model, self.folder / "published" / model / version, version, turn=turn))
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=notification(SeaweedFS.BUCKET))

    def register(self, note: str) -> str:
        """Register a sentiment model that differs by a note in its code, as champion; its number. MLflow calls the webhook."""
        return self.mlflow.register(pyfunc(self.folder / "published" / "sentiment" / note, note=note), "champion")

    def roll_back(self, model: str) -> dict[str, Any]:
        """Have the version serve that served before; what the sidecar answers."""
        answer = httpx.post(
            f"{self.sidecar.url}/models/{model}/rollback",
            json={},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=ROLLBACK_SECONDS,
        )
        return dict(answer.raise_for_status().json())


@contextmanager
def staged(tell: Callable[[str], None]) -> Iterator[Stage]:
    """A stage on which a first version of each model is on its way in; `tell` hears what is being started.

    At the end all its processes have ended, and its folder is deleted.
    """
    _forget_the_users_settings()
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="bunriwiki-demo-", ignore_cleanup_errors=True)))
            tell("SeaweedFS")
            s3 = stack.enter_context(SeaweedFS(folder / "s3"))
            tell("SeaweedFS, the SQS emulator")
            emulator = stack.enter_context(SqsEmulator())
            tell("SeaweedFS, the SQS emulator, the MLflow server")
            mlflow = stack.enter_context(MlflowServer(folder / "mlflow"))
            sqs = emulator.client()
            queue = sqs.create_queue(QueueName="models")["QueueUrl"]
            registries = {
                **s3_environment(s3),
                **emulator.environment,
                "MLFLOW_TRACKING_URI": mlflow.url,
                "BUNRIWIKI_SQS_QUEUE_URL": queue,
                "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",  # so that what one sees comes of the notifications
            }
            sidecar = Sidecar(folder / "store", folder / "sidecar.log", registries)
            publisher, registrar = Publisher(s3), Registrar(mlflow.url)
            for model in ("kcbert", "yolo"):
                publisher.publish(model, "v1", compiled(model, folder / "published" / model / "v1"))
            registrar.register(pyfunc(folder / "published" / "sentiment" / "first"), "champion")
            registrar.call(
                f"{sidecar.url}/webhooks/mlflow",
                SECRET,
                WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED),
            )
            tell("the registries run; now the sidecar and the service")
            stack.callback(_end, sidecar)
            sidecar.start()
            service = {"BUNRIWIKI_RUNNER_WORKERS": str(WORKERS), "BUNRIWIKI_LOG_REQUESTS": "false", **registries}
            server = Server(folder / "server.log", environment=service)
            stack.callback(server.stop)
            yield Stage(folder, publisher, registrar, sqs, queue, sidecar, server)
        finally:  # tidying up takes seconds, and is not to be cut off
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def loaded(stage: Stage) -> Iterator[None]:
    """Clients that ask all models all the time, as long as the block lasts."""
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stage.load.append(stack.enter_context(probing(stage.server.url, EVERY)))
        yield


def _end(sidecar: Sidecar) -> None:
    try:
        sidecar.stop()
    except subprocess.TimeoutExpired:
        sidecar.kill()


def _forget_the_users_settings() -> None:
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name == "PORT"]:
        del os.environ[name]
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # it would write across the screen
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
