"""Registries to test with, each in a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
import httpx
from cryptography.fernet import Fernet

from benchmarks.load import free_port

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

BINARIES = Path(sys.executable).parent
START_SECONDS = 60
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "for-tests-only", "AWS_DEFAULT_REGION": REGION}


class _Server:
    """A process that answers at `url`, and can be killed and started again on the same port with the same data."""

    def __init__(
        self, command: Sequence[str | Path], port: int, probe: str, folder: Path | None, environment: dict[str, str]
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._probe = self.url + probe
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Returns when it answers."""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self._folder / "log.txt").open("ab")) if self._folder else subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own children end with it
            )
        started = time.monotonic()
        while not self._answers():
            assert self._process.poll() is None, f"{self._command[0]} has ended: see its log.txt"
            assert time.monotonic() - started < START_SECONDS, f"{self._command[0]} does not answer: see its log.txt"
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """From now on it accepts connections and does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process, "it does not run"
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            return httpx.get(self._probe, timeout=3).status_code == 200
        except httpx.TransportError:
            return False


class SeaweedFS(_Server):
    """A real S3 server with the bucket `models`. All that it writes lies in `folder`, but for sockets in /tmp while it runs.

    `environment` is what a client in another process needs.
    """

    BUCKET = "models"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        parts = ("master", "volume", "filer", "s3")
        ports = {f"{part}.{kind}": free_port() for part in parts for kind in ("port", "port.grpc")}
        while (admin := free_port()) > 55_000:  # its workers look for it 10,000 further on
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
                "-filer.localSocket=filer.sock",  # in the folder; a longer path may be too long for a socket
                "-s3.localSocket=s3.sock",
                *(f"-{name}={port}" for name, port in ports.items()),
            ],
            ports["s3.port"],
            "/healthz",
            folder,
            {**CREDENTIALS, "HOME": str(folder), "TMPDIR": str(folder)},
        )
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": self.url}

    def start(self) -> Self:
        super().start()
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=self.BUCKET)
        return self

    def client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
        )

    def stop(self) -> None:
        """Kills it: ending in order takes it four seconds, and leaves nothing else behind."""
        self.kill()
        for part, port in self._grpc_ports.items():
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 (weed's choice)


class MlflowServer(_Server):
    """A real MLflow server: SQLite, artifacts that it serves itself, and webhooks to this machine allowed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        super().__init__(
            [
                BINARIES / "mlflow",
                "server",
                "--host=127.0.0.1",
                f"--port={port}",
                f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}",
                "--serve-artifacts",
                f"--artifacts-destination={folder / 'artifacts'}",
                "--workers=1",
            ],
            port,
            "/health",
            folder,
            {
                "DO_NOT_TRACK": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
                "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
                "MLFLOW_WEBHOOK_CACHE_TTL": "1",  # seconds until it knows a new webhook
                "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            },
        )


class SqsEmulator(_Server):
    """`moto_server`: an emulator of SQS, not SQS. It keeps everything in memory and checks no signatures.

    `environment` is what a client in another process needs.
    """

    def __init__(self) -> None:
        port = free_port()
        super().__init__([BINARIES / "moto_server", "-H", "127.0.0.1", "-p", str(port)], port, "/moto-api/", None, {})
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL_SQS": self.url}

    def client(self) -> SQSClient:
        return boto3.client(
            "sqs",
            endpoint_url=self.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
        )
