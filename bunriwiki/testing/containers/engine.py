"""A Docker engine of its own: Debian's `dockerd`, with all its files in one folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from bunriwiki.testing.processes import wait_while_running

DOCKERD = "/usr/sbin/dockerd"
DOCKER = "/usr/bin/docker"  # Debian's client, whatever other one is on the PATH
START_SECONDS = 60.0
STOP_SECONDS = 60.0
PACKAGES = "docker.io debootstrap busybox-static prometheus prometheus-alertmanager"


class DockerError(AssertionError):
    """A command of the Docker client failed. The message has the command and what it printed."""


class Engine:
    """A Docker engine with everything that it keeps in `folder`. If one runs there already, it is used, and left running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a client finds the engine."""
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}

    def start(self) -> Self:
        """Start it, and return when it answers. Raises RuntimeError if this machine cannot run one."""
        if self._answers():
            return self
        if os.geteuid() != 0 or shutil.which(DOCKERD) is None:
            raise RuntimeError(f"a Docker engine requires root and these packages of Debian: {PACKAGES}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    DOCKERD,
                    f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self.folder / 'exec'}",
                    f"--pidfile={self.folder / 'docker.pid'}",
                    f"--host=unix://{self.socket}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_while_running(self._process, self._answers, START_SECONDS, lambda: self._log.read_text(errors="replace"))
        return self

    def stop(self) -> None:
        """End the engine and its containers, if this process started it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
            self._process = None

    def docker(self, *arguments: str | Path, data: bytes | None = None) -> str:
        """What a command of the client prints. Raises DockerError if it fails."""
        return self.run([DOCKER, *arguments], data=data)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        data: bytes | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """What a command prints that uses the engine; `data` is its standard input. Raises DockerError if it fails."""
        variables = {**os.environ, **self.environment, **(environment or {})}
        done = subprocess.run(command, cwd=folder, env=variables, input=data, capture_output=True, check=False)
        if done.returncode != 0:
            output = f"{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"
            raise DockerError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{output}")
        return done.stdout.decode(errors="replace")

    def logs(self, container: str) -> str:
        """What a container has printed."""
        command = [DOCKER, "logs", container]
        variables = {**os.environ, **self.environment}
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        return done.stdout.decode(errors="replace")

    @property
    def gateway(self) -> str:
        """The address of this machine for containers and builds."""
        [bridge] = json.loads(self.docker("network", "inspect", "bridge"))
        return str(ip_network(bridge["IPAM"]["Config"][0]["Subnet"])[1])

    def has_image(self, name: str) -> bool:
        return bool(self.docker("images", "--quiet", name).strip())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.folder / "dockerd.log"

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self.docker("version")
        except (DockerError, OSError):
            return False
        return True
