"""An emulator of SQS on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3

from bunriwiki.testing.aws import CREDENTIALS, client_arguments
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.server_process import BINARIES, ServerProcess

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


class SqsEmulator(ServerProcess):
    """`moto_server`, not SQS itself: it keeps everything in memory and checks no signatures.

    `environment` is what a client in another process needs.
    """

    def __init__(self) -> None:
        port = free_port()
        super().__init__([BINARIES / "moto_server", "-H", "127.0.0.1", "-p", str(port)], port, "/moto-api/")
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_SQS": self.url}

    def client(self) -> SQSClient:
        return boto3.client("sqs", **client_arguments(self.url))
