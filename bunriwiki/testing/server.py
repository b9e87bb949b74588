"""The real service, `bentoml serve`, in a process of its own, from the environment that serves in production."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.processes import wait_while_running
from bunriwiki.testing.versions import BUNDLED_VERSION

START_SECONDS = 180.0  # this limit and the others only end what hangs: other tests may run beside
STOP_SECONDS = 60.0


class Server:
    """`bentoml serve`, or another `command` that serves, in `folder` on a free port; its output goes to `log`.

    It is started at once, with a model store beside the log unless `environment` names another one. With `grpc` it serves gRPC
    as well, at `grpc_address`. Health checks and metrics have a port of their own, at `health_url`.
    """

    def __init__(
        self,
        log: Path,
        *,
        target: str = ".",
        command: Sequence[str | Path] | None = None,
        folder: Path = ROOT,
        grpc: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.grpc_port = free_port() if grpc else 0
        self.health_port = free_port()
        self.health_url = f"http://127.0.0.1:{self.health_port}"
        self.grpc_address = f"127.0.0.1:{self.grpc_port}"
        tokens = (environment or {}).get("BUNRIWIKI_ADMIN_TOKEN", "")
        self._headers = {"Authorization": f"Bearer {tokens.rpartition(',')[2]}"} if tokens else {}
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                command or [SERVE_ENV / "bin" / "bentoml", "serve", target],
                cwd=folder,
                env={
                    **os.environ,
                    "PATH": f"{SERVE_ENV / 'bin'}:{os.environ['PATH']}",
                    "BUNRIWIKI_MODEL_STORE": str(log.parent / "store"),
                    "BENTOML_HOST": "127.0.0.1",
                    "BENTOML_PORT": str(self.port),
                    "BUNRIWIKI_GRPC_HOST": "127.0.0.1",
                    "BUNRIWIKI_GRPC_PORT": str(self.grpc_port),
                    "BUNRIWIKI_METRICS_HOST": "127.0.0.1",
                    "BUNRIWIKI_METRICS_PORT": str(self.health_port),
                    **(environment or {}),
                },
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        try:
            return CLIENT.get(f"{self.url}/readyz", timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_ready(self, seconds: float = START_SECONDS) -> float:
        """The seconds it took."""
        started = time.monotonic()
        wait_while_running(self.process, self.is_ready, seconds, self.log)
        return time.monotonic() - started

    def all_workers(self) -> list[tuple[str, psutil.Process]]:
        """The workers with the name of their service."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                command = child.cmdline()
                if "_bentoml_impl.worker.service" in command:
                    found.append((command[command.index("--service-name") + 1], child))
        return found

    def workers(self) -> dict[str, psutil.Process]:
        """One worker of each service."""
        return dict(self.all_workers())

    def model(self, name: str) -> dict[str, Any]:
        """The state of a model; its details, if the environment has an admin token."""
        models = CLIENT.get(f"{self.url}/v1/models", headers=self._headers, timeout=60).json()["models"]
        return next(state for state in models if state["name"] == name)

    def serving(self, name: str) -> str:
        """The version of a model that should answer."""
        model = self.model(name)
        return str(model["serving"]["version"] if model["serving"] else model["fallback"])

    def wait_until_serving(self, model: str, version: str, workers: int = 2, seconds: float = 180) -> float:
        """Wait until exactly `workers` workers answer with `version`, and no others; the seconds it took."""

        def serves() -> bool:
            ready = [worker["serving"] for worker in self.model(model)["workers"] if worker["state"] == "ready"]
            return ready == [version] * workers

        started = time.monotonic()
        wait_while_running(self.process, serves, seconds, self.log, describe=lambda: self.model(model))
        return time.monotonic() - started

    def wait_for_all_workers(self, number: int = 2) -> None:
        """Wait until `number` workers of each model serve the fallback version: the service is ready with one.

        They may all start at once, which takes far longer than one, on a busy machine above all.
        """
        for model in MODELS:
            self.wait_until_serving(model, BUNDLED_VERSION, number, seconds=240)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(CLIENT.get(f"{self.url}/metrics", timeout=60).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def terminate(self) -> None:
        """Have it end, if it runs, without waiting for its end."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> int:
        """End it with SIGTERM; the exit code."""
        self.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            raise
