"""Replicas of a service on Docker Swarm: two services behind one name, of which one grows while the other shrinks.

Swarm's own rolling update knows healthy and unhealthy, and nothing of answers, errors or latency. So its updates are not
used: the stack has the services `service-a` and `service-b`, both with the alias that the edge resolves (`endpoint_mode:
dnsrr`), and `trial`, without it. Each replica more or less is a change of `replicas`, which this target makes one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from python_on_whales import DockerClient
from python_on_whales.components.service.cli_wrapper import Service
from python_on_whales.components.task.cli_wrapper import Task

from model_sync.rollout.engine import PORT, engine_errors
from model_sync.rollout.state import Image
from model_sync.rollout.target import Replica, TargetError

WANTED = ("ready", "running")  # desired states of a task that Swarm has not given up; `ready` while it delays a restart


@dataclass(frozen=True, slots=True)
class Stack:
    """The names of the services in a stack."""

    name: str

    @property
    def colours(self) -> tuple[str, str]:
        return f"{self.name}_service-a", f"{self.name}_service-b"

    @property
    def trial(self) -> str:
        return f"{self.name}_trial"


class SwarmTarget:
    """The replicas of a stack. Swarm replaces a replica that ends by itself, so none is ever reported as ended.

    A replica is a slot of a service, whatever task is in it: so one that never becomes ready is noticed, however often Swarm
    restarts it. Changes of `replicas` start from the number of slots seen, so to repeat one before Swarm followed it changes
    nothing.
    """

    def __init__(self, docker: DockerClient, stack: Stack) -> None:
        self._docker = docker
        self._stack = stack

    def replicas(self) -> Sequence[Replica]:
        with engine_errors():
            found = [(task, name) for name in self._names() for task in self._tasks(name)]
            found.sort(key=lambda each: each[0].created_at)
            return [self._replica(task, name) for task, name in found]

    def identity(self, image: str) -> str | None:
        """The name itself: tags of rollouts are digests of what an image contains, and nodes may have it under other ids."""
        with engine_errors():
            return image if self._docker.image.exists(image) else None

    def start(self, image: Image) -> None:
        with engine_errors():
            services = {name: self._docker.service.inspect(name) for name in self._stack.colours}
            for name, service in services.items():
                if _image(service) == image.name and _replicas(service):
                    self._scale(name, len(self._tasks(name)) + 1)
                    return
            for name, service in services.items():
                if not _replicas(service):
                    self._update(name, image)
                    return
        raise TargetError("both services of the stack have replicas of other images")

    def start_trial(self, image: Image) -> None:
        with engine_errors():
            self._update(self._stack.trial, image)

    def retire(self, replica: Replica) -> None:
        """Have one replica less with the image of `replica`. Swarm chooses which; those that are not running go first."""
        with engine_errors():
            for name in self._names():
                tasks = self._tasks(name)
                if any(_slot(task, name) == replica.name for task in tasks):
                    self._scale(name, max(0, len(tasks) - 1))
                    return

    def _update(self, name: str, image: Image) -> None:
        """Have one replica of `image` in the service `name`, which has none. Nodes get the credentials to pull it."""
        self._docker.service.update(
            name, image=image.name, replicas=1, with_registry_authentication=True, detach=True, quiet=True
        )

    def _scale(self, name: str, replicas: int) -> None:
        """Not by `update`: it may write the same mounts in another order, for which Swarm would replace every replica."""
        self._docker.service.scale({name: replicas}, detach=True)

    def _names(self) -> tuple[str, ...]:
        return (*self._stack.colours, self._stack.trial)

    def _tasks(self, name: str) -> list[Task]:
        return [task for task in self._docker.service.ps(name) if task.desired_state in WANTED]

    def _replica(self, task: Task, name: str) -> Replica:
        image = _without_digest(task.spec.container_spec.image if task.spec.container_spec else None)
        running = task.status.state == "running"
        return Replica(
            name=_slot(task, name),
            image=image,
            image_name=image,
            address=f"{_slot(task, name)}.{task.id}:{PORT}" if running else "",  # the container's name, which Docker's DNS has
            trial=name == self._stack.trial,
        )


def _slot(task: Task, name: str) -> str:
    """The place of a task in the service `name`, which stays when Swarm restarts the task."""
    return f"{name}.{task.slot}"


def _image(service: Service) -> str:
    template = service.spec.task_template
    return _without_digest(template.container_spec.image if template and template.container_spec else None)


def _replicas(service: Service) -> int:
    mode = service.spec.mode or {}
    return int(((mode.get("Replicated") or {}) if isinstance(mode, dict) else {}).get("Replicas") or 0)


def _without_digest(image: str | None) -> str:
    return (image or "").partition("@")[0]
