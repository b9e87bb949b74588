"""The real `bentoml serve`, in a process of its own, from the environment that serves in production."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import free_port
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.writer import StoreWriter, open_writer
from tests.conftest import ROOT
from tests.versions import TURNS, make_version

SERVE_ENV = ROOT / ".venv"
FULL = os.environ.get("BUNRIWIKI_PROOF") == "full"
START_SECONDS = 90


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)


class Server:
    """`bentoml serve`, or another `command` that serves, in `folder` on a free port; what it prints goes to `log`."""

    def __init__(
        self,
        log: Path,
        *,
        target: str = ".",
        command: Sequence[str | Path] | None = None,
        folder: Path = ROOT,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
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
                    "BUNRIWIKI_GRPC_PORT": "0",
                    **(environment or {}),
                },
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=3).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_ready(self, seconds: float = START_SECONDS) -> float:
        """The seconds it took."""
        started = time.monotonic()
        while not self.is_ready():
            assert self.process.poll() is None, f"the server has ended:\n{self.log()}"
            assert time.monotonic() - started < seconds, f"not ready after {seconds} s:\n{self.log()[-5000:]}"
            time.sleep(0.1)
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
        """The state of a model."""
        models = httpx.get(f"{self.url}/v1/models", timeout=10).json()["models"]
        return next(one for one in models if one["name"] == name)

    def wait_until_it_serves(self, model: str, version: str, workers: int = 2, seconds: float = 30) -> float:
        """Wait until exactly so many workers answer with a version, and no others; the seconds it took."""
        started = time.monotonic()
        while True:
            state = self.model(model)
            if [one["serving"] for one in state["workers"] if one["state"] == "ready"] == [version] * workers:
                return time.monotonic() - started
            assert time.monotonic() - started < seconds, state
            time.sleep(0.1)

    def wait_for_pairs(self) -> None:
        """Wait for the second worker of every runner: the service is ready with one."""
        for model in MODELS:
            self.wait_until_it_serves(model, "fallback-2")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics", timeout=10).text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())

    def stop(self) -> int:
        """End it with SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            raise


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers, waits until they are ready, and stops what is still running at the end."""
    servers: list[Server] = []

    def starter(**options: object) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server") / "log", **options))  # type: ignore[arg-type]
        servers[-1].wait_until_ready()
        return servers[-1]

    yield starter
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Iterator[Server]:
    """A server for the tests of one module."""
    server = start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Bento:
    """The repository as a Bento, in a store of its own."""

    home: Path
    tag: str

    @property
    def environment(self) -> dict[str, str]:
        return {"BENTOML_HOME": str(self.home)}


@pytest.fixture(scope="session")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Bento:
    """What `bentoml build` makes."""
    home = tmp_path_factory.mktemp("bentoml")
    build = [str(SERVE_ENV / "bin" / "bentoml"), "build", "--output", "tag"]
    environment = {**os.environ, "BENTOML_HOME": str(home)}
    built = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return Bento(home, built.stdout.strip().removeprefix("__tag__:"))


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of every model, each with names of its own for the classes."""
    root = tmp_path_factory.mktemp("versions")
    for model in MODELS:
        for version in ("v1", "v2", "v3"):
            make_version(model, version, TURNS[version], root / model / version)
    return root


@pytest.fixture
def store(tmp_path: Path, versions: Path) -> Iterator[StoreWriter]:
    """A store with all of `versions`, none of which serves."""
    with open_writer(tmp_path / "store", "a test") as writer:
        for model in MODELS:
            for version in ("v1", "v2", "v3"):
                writer.publish(versions / model / version, "a test", "operator")
        yield writer


@pytest.fixture
def pair(start: Callable[..., Server], store: StoreWriter) -> Iterator[Server]:
    """A server with two workers per runner that follows `store`."""
    root = str(store.layout.root)
    server = start(environment={"BUNRIWIKI_RUNNER_WORKERS": "2", "BUNRIWIKI_MODEL_STORE": root})
    server.wait_for_pairs()
    yield server
    server.stop()
