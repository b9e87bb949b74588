"""Replicas of a service of Docker Compose, on one engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from python_on_whales import Container, DockerClient
from python_on_whales.exceptions import NoSuchContainer, NoSuchImage

from model_sync.rollout.engine import PORT, engine_errors
from model_sync.rollout.state import Image
from model_sync.rollout.target import TRIAL_LABEL, Replica, TargetError

ALIAS = "replicas"  # of every replica in the network that the edge resolves, and in which the rollout reaches it
PROJECT_LABEL, SERVICE_LABEL = "com.docker.compose.project", "com.docker.compose.service"
STOP_SECONDS = 90  # stop_grace_period of the service
CREATED_SECONDS = 30.0  # a container that was created and not started for so long was left by a process that died
ENDED = ("exited", "dead")
# A replica counts as ended after this: when the engine stops, it ends its containers first, and answers meanwhile. It starts
# those of the service again when it starts, unless they were removed.
RETURN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Project:
    """A project of Compose: its name, its files, the folder that paths in them are relative to, and the service's name.

    `files` and `folder` are as this process sees them: they are read here, and not by the engine. `memory` and `cpus` limit a
    trial.
    """

    name: str
    folder: Path
    files: Sequence[Path]
    service: str = "service"
    memory: str = "3g"
    cpus: float = 2


class ComposeTarget:
    """The replicas of a project. `scratch` is a folder for the file that names the image of the next replica.

    A replica is started by `docker compose up --no-recreate --scale`, so it has the configuration of the project's file,
    whatever replicas there are.
    """

    def __init__(
        self, docker: DockerClient, project: Project, scratch: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._docker = docker
        self._project = project
        self._override = scratch / "compose.yaml"
        self._now = now

    def replicas(self) -> list[Replica]:
        with engine_errors():
            found = [self._replica(container) for container in (*self._containers(), *self._trials())]
        return [replica for replica in found if replica]

    def identity(self, image: str) -> str | None:
        with engine_errors():
            try:
                return str(self._docker.image.inspect(image).id)
            except NoSuchImage:
                return None

    def start(self, image: Image) -> None:
        service = self._project.service
        self._override.parent.mkdir(parents=True, exist_ok=True)
        self._override.write_text(yaml.safe_dump({"services": {service: {"image": image.name}}}), encoding="utf-8")
        with engine_errors():
            self._compose().compose.up(
                [service],
                detach=True,
                recreate=False,
                no_build=True,
                pull="never",
                dependencies=False,
                scales={service: len(self._containers()) + 1},
                quiet=True,
            )

    def start_trial(self, image: Image) -> None:
        with engine_errors():
            self._docker.container.run(
                image.name,
                detach=True,
                read_only=True,
                cap_drop=["ALL"],
                security_options=["no-new-privileges:true"],
                pids_limit=512,
                memory=self._project.memory,
                cpus=self._project.cpus,
                tmpfs=["/tmp:size=256m,mode=1777", "/store/run:size=16m,mode=1777"],  # noqa: S108 (in the container)
                networks=[self._network()],
                pull="never",
                labels={TRIAL_LABEL: self._project.name},
            )

    def retire(self, replica: Replica) -> None:
        with engine_errors():
            try:
                container = self._docker.container.inspect(replica.name)
                if container.state.running:
                    container.stop(time=STOP_SECONDS)
                container.remove()
            except NoSuchContainer:
                return

    def _containers(self) -> list[Container]:
        return self._list(f"{PROJECT_LABEL}={self._project.name}", f"{SERVICE_LABEL}={self._project.service}")

    def _trials(self) -> list[Container]:
        return self._list(f"{TRIAL_LABEL}={self._project.name}")

    def _list(self, *labels: str) -> list[Container]:
        found = self._docker.container.list(all=True, filters=[("label", label) for label in labels])
        return sorted(found, key=lambda container: container.created)

    def _replica(self, container: Container) -> Replica | None:
        """The replica in a container; None if the container is gone meanwhile."""
        try:
            status = container.state.status or ""
            labels = container.config.labels or {}
            is_trial = TRIAL_LABEL in labels
            return Replica(
                name=container.name,
                image=container.image,
                image_name=container.config.image or container.image,
                address=_address(container) if status == "running" else "",
                exited=self._has_ended(container, status, returns=not is_trial),
                trial=is_trial,
            )
        except NoSuchContainer:
            return None

    def _has_ended(self, container: Container, status: str, *, returns: bool) -> bool:
        """Whether the container runs no more; `returns`: the engine may start it again."""
        if status == "created":
            return self._seconds_since(container.created) > CREATED_SECONDS
        ended = container.state.finished_at
        return status in ENDED and not (returns and ended and self._seconds_since(ended) < RETURN_SECONDS)

    def _seconds_since(self, instant: datetime) -> float:
        return (self._now() - instant).total_seconds()

    def _network(self) -> str:
        """The name of the network in which the rollout reaches replicas."""
        for container in self._containers():
            for name, network in (container.network_settings.networks or {}).items():
                if ALIAS in (network.aliases or []):
                    return name
        raise TargetError(f"no replica of {self._project.name} has the alias {ALIAS} in a network")

    def _compose(self) -> DockerClient:
        return DockerClient(
            client_call=self._docker.client_config.client_call,
            host=self._docker.client_config.host,
            compose_files=[*self._project.files, self._override],
            compose_project_name=self._project.name,
            compose_project_directory=self._project.folder,
        )


def _address(container: Container) -> str:
    """Host and port in the network of the edge; a trial has one network."""
    networks = (container.network_settings.networks or {}).values()
    addresses = [network for network in networks if network.ip_address]
    for network in addresses:
        if ALIAS in (network.aliases or []):
            return f"{network.ip_address}:{PORT}"
    return f"{addresses[0].ip_address}:{PORT}" if len(addresses) == 1 else ""
