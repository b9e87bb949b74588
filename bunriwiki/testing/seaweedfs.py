"""A real S3 server on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3

from bunriwiki.testing.aws import CREDENTIALS, client_arguments
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.server_process import BINARIES, ServerProcess

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class SeaweedFS(ServerProcess):
    """SeaweedFS with the bucket `models`. All its data lies in `folder`; its sockets lie in /tmp while it runs.

    `environment` is what a client in another process needs.
    """

    BUCKET = "models"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        parts = ("master", "volume", "filer", "s3")
        ports = {f"{part}.{kind}": free_port() for part in parts for kind in ("port", "port.grpc")}
        while (admin := free_port()) > 55_000:  # its workers connect to this port plus 10,000
            pass
        self._grpc_ports = {part: ports[f"{part}.port.grpc"] for part in parts} | {"admin": admin + 10_000}
        super().__init__(
            [
                BINARIES / "weed",
                "mini",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-master.telemetry=false",
                "-webdav=false",
                "-admin.ui=false",
                f"-admin.port={admin}",
                f"-admin.dataDir={folder / 'admin'}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-filer.localSocket=filer.sock",  # relative to the folder: a longer path may be too long for a socket
                "-s3.localSocket=s3.sock",
                *(f"-{name}={port}" for name, port in ports.items()),
            ],
            ports["s3.port"],
            "/healthz",
            folder=folder,
            environment={**CREDENTIALS, "HOME": str(folder), "TMPDIR": str(folder)},
        )
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": self.url}

    def start(self) -> Self:
        super().start()
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=self.BUCKET)
        return self

    def client(self) -> S3Client:
        return boto3.client("s3", **client_arguments(self.url))

    def stop(self) -> None:
        """Kill it: an orderly end takes four seconds and leaves the same behind."""
        self.kill()
        for part, port in self._grpc_ports.items():
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 (SeaweedFS names it)
