"""A Docker engine of its own: Debian's `dockerd`, with all its files in one folder, and a network of its own.

Engines of several folders can run at the same time, and beside one that this machine has anyway: each has its socket, its
network namespace, its control group, and its names in a containerd that they share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from bunriwiki.testing.containers.network import UNSHARE, Network
from bunriwiki.testing.containers.requirements import DOCKERD, missing
from bunriwiki.testing.processes import wait_while_running

DOCKER = "/usr/bin/docker"  # Debian's client, whatever other one is on the PATH
CONTROL_GROUPS = Path("/sys/fs/cgroup")
# The kernel divides the cores between the control group of all containers, which has the weight of one process by default, and
# each process of this machine. With this, the containers have the weight of 16 processes, about as many as they run.
WEIGHTS = {"cpu.shares": 16 * 1024, "cpu.weight": 16 * 100}
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class DockerError(AssertionError):
    """A command of the Docker client failed. The message has the command and what it printed."""


class Engine:
    """A Docker engine with everything that it keeps in `folder`. If one runs there already, it is used, and left running.

    Between start and stop, the thread that started it is in the engine's network, where 127.0.0.1 has the published ports.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.socket = self.folder / "docker.sock"
        self._name = f"bunriwiki-{hashlib.sha256(bytes(self.folder)).hexdigest()[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._network: Network | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a client finds the engine."""
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}

    def start(self) -> Self:
        """Start it, and return when it answers. Raises RuntimeError if this machine cannot run one."""
        if not self._answers():
            self._start()
        self._network = self._network or Network(int(self._pidfile.read_text()))
        self._network.enter()
        return self

    def _start(self) -> None:
        if lacks := missing():
            raise RuntimeError(lacks)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run_program(*UNSHARE)
        self._remove_containers()
        self._weigh()

    def _run_program(self, *prefix: str) -> None:
        """Start the program, whose command begins with `prefix`, connect its network, and return when it answers."""
        ended, runs = os.pipe()
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *prefix,
                        DOCKERD,
                        f"--data-root={self.folder / 'data'}",
                        f"--exec-root={self.folder / 'exec'}",
                        f"--pidfile={self._pidfile}",
                        f"--host=unix://{self.socket}",
                        f"--cgroup-parent=/{self._name}",
                        "--exec-opt=native.cgroupdriver=cgroupfs",
                        f"--containerd-namespace={self._name}",
                        f"--containerd-plugins-namespace={self._name}-plugins",
                    ],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[runs],
                    start_new_session=True,
                )
                os.close(runs)
                wait_while_running(self._process, self._answers, START_SECONDS, lambda: self._log.read_text(errors="replace"))
                self._network = self._network or Network(self._process.pid)
                self._network.connect(self._process.pid, ended, log)
        finally:
            os.close(ended)

    def restart(self) -> None:
        """End the engine, and with it all containers, and start it again, which starts those whose policy says so.

        Requires that this object started it, and that this thread is in its network, which stays.
        """
        assert self._network is not None
        self._end_program()
        self._run_program()

    def stop(self) -> None:
        """Leave its network. End the engine and its containers, if this process started it."""
        self.leave()
        if self._process is not None:
            self._end_program()
            self._network = None
            for group in (CONTROL_GROUPS / self._name, *CONTROL_GROUPS.glob(f"*/{self._name}")):
                for emptied in (group / "buildkit", group):
                    with contextlib.suppress(OSError):
                        emptied.rmdir()

    def _end_program(self) -> None:
        """End it and its containers, and what connects its network."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        self._process = None
        if self._network is not None:
            self._network.disconnected()

    def enter(self) -> None:
        """Bring this thread into the engine's network, if it left it."""
        if self._network is not None:
            self._network.enter()

    def leave(self) -> None:
        """Bring this thread back to this machine's network. Threads and processes that it started stay where they are."""
        if self._network is not None:
            self._network.leave()

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

    def _remove_containers(self) -> None:
        """Remove what a run that was killed left in the folder: the engine would start those containers again."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", *containers)
        if volumes := self.docker("volume", "ls", "--quiet").split():
            self.docker("volume", "rm", *volumes)
        self.docker("network", "prune", "--force")

    def _weigh(self) -> None:
        """Give the containers the weight `WEIGHTS`, if this machine has control groups of the version 1 or 2 there."""
        for name, weight in WEIGHTS.items():
            for group in (CONTROL_GROUPS / self._name, CONTROL_GROUPS / "cpu" / self._name):
                with contextlib.suppress(OSError):
                    group.mkdir(exist_ok=True)
                    (group / name).write_text(str(weight))

    @property
    def _pidfile(self) -> Path:
        return self.folder / "docker.pid"

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
