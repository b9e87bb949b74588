"""A Docker engine of its own: Debian's `dockerd`, with all its files in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from bunriwiki.testing.processes import wait_while_running
from bunriwiki.testing.waiting import wait_until

DOCKERD = "/usr/sbin/dockerd"
DOCKER = "/usr/bin/docker"  # Debian's client, whatever other one is on the PATH
# The kernel divides the cores between the control group of all containers, which has the weight of one process by default, and
# each process of this machine. With this, the containers have the weight of 16 processes, about as many as they run.
WEIGHTS = {"/sys/fs/cgroup/cpu/docker/cpu.shares": 16 * 1024, "/sys/fs/cgroup/docker/cpu.weight": 16 * 100}
START_SECONDS = 60.0
STOP_SECONDS = 60.0
# What the tests require, and the packages of Debian that have it.
PROGRAMS = {
    DOCKERD: "docker.io",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/debootstrap": "debootstrap",
    "/usr/bin/busybox": "busybox-static",
    "/usr/bin/prometheus": "prometheus",
    "/usr/bin/prometheus-alertmanager": "prometheus-alertmanager",
    "/usr/bin/curl": "curl",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/ip": "iproute2",
}


def missing() -> str | None:
    """A sentence on what this machine lacks to run the tests in containers; None if it lacks nothing."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if os.geteuid() == 0 and not packages:
        return None
    needs = [*(["root"] if os.geteuid() else []), *([f"Debian's packages {' '.join(packages)}"] if packages else [])]
    return f"The tests in containers start a Docker engine, which requires {' and '.join(needs)}."


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
        if lacks := missing():
            raise RuntimeError(lacks)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._launch()
        self._remove_containers()
        self._weigh()
        return self

    def stop(self) -> None:
        """End the engine and its containers, if this process started it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
            self._process = None

    def restart(self) -> None:
        """End the engine, and with it all containers, and start it again, which starts those whose policy says so."""
        pid = int(self._pid.read_text())
        os.kill(pid, signal.SIGTERM)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        wait_until(lambda: not self._pid.exists(), STOP_SECONDS, lambda: self._log.read_text(errors="replace")[-2000:])
        self._launch()

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

    def _launch(self) -> None:
        """Run the program, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    DOCKERD,
                    f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self.folder / 'exec'}",
                    f"--pidfile={self._pid}",
                    f"--host=unix://{self.socket}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_while_running(self._process, self._answers, START_SECONDS, lambda: self._log.read_text(errors="replace"))

    @property
    def _pid(self) -> Path:
        """The file with the number of the process, which removes it when it ends."""
        return self.folder / "docker.pid"

    def _remove_containers(self) -> None:
        """Remove what a run that was killed left in the folder: the engine would start those containers again."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", *containers)
        if volumes := self.docker("volume", "ls", "--quiet").split():
            self.docker("volume", "rm", *volumes)
        self.docker("network", "prune", "--force")

    def _weigh(self) -> None:
        """Give the containers the weight `WEIGHTS`, if this machine has control groups of the version 1 or 2 there."""
        for path, weight in WEIGHTS.items():
            with contextlib.suppress(OSError):
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).write_text(str(weight))

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
