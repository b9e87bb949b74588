"""A real MLflow server on this machine."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet

from bunriwiki.testing.ports import free_port
from bunriwiki.testing.server_process import BINARIES, ServerProcess


class MlflowServer(ServerProcess):
    """MLflow on SQLite. It serves its artifacts itself, and may call webhooks on this machine."""

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
            folder=folder,
            environment={
                "DO_NOT_TRACK": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
                "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
                "MLFLOW_WEBHOOK_CACHE_TTL": "1",  # seconds until it knows a new webhook
                "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            },
        )
