"""All registries that the sidecar can sync with, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bunriwiki.testing.mlflow_server import MlflowServer
from bunriwiki.testing.publisher import Publisher, notification, s3_environment
from bunriwiki.testing.registrar import Registrar
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.sqs_emulator import SqsEmulator

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


@dataclass(frozen=True)
class Registries:
    """S3 with a queue, and MLflow. `environment` has the variables with which the sidecar syncs with them."""

    s3: Publisher
    mlflow: Registrar
    sqs: SQSClient
    queue: str
    environment: dict[str, str]

    def notify(self) -> None:
        """Send the message that S3 sends when `latest_model.yaml` was written."""
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=notification(SeaweedFS.BUCKET))


@contextmanager
def running_registries(folder: Path, report: Callable[[str], None] = lambda _: None) -> Iterator[Registries]:
    """Registries that are ready, with their data below `folder`; `report` is called with the name of each before its start."""
    report("SeaweedFS")
    with SeaweedFS(folder / "s3") as s3:
        report("the SQS emulator")
        with SqsEmulator() as emulator:
            report("the MLflow server")
            with MlflowServer(folder / "mlflow") as mlflow:
                sqs = emulator.client()
                queue = sqs.create_queue(QueueName="models")["QueueUrl"]
                environment = {
                    **s3_environment(s3),
                    **emulator.environment,
                    "MLFLOW_TRACKING_URI": mlflow.url,
                    "BUNRIWIKI_SQS_QUEUE_URL": queue,
                }
                yield Registries(Publisher(s3), Registrar(mlflow.url), sqs, queue, environment)
