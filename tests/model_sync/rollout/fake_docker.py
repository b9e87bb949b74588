"""A part of python-on-whales' client, with containers, images and services in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml
from python_on_whales.exceptions import DockerException, NoSuchContainer, NoSuchImage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def failure(kind: type[DockerException] = DockerException, text: str = "the engine says no") -> DockerException:
    return kind(["docker", "a", "command"], 1, b"", text.encode())


class FakeDocker:
    """The client. It may be handed over as DockerClient; it has what the targets and the builder call."""

    def __init__(self) -> None:
        self.containers: dict[str, SimpleNamespace] = {}
        self.images: dict[str, str] = {"bunriwiki": "sha256:" + "b" * 64}  # identities by name
        self.services: dict[str, SimpleNamespace] = {}
        self.slots: dict[str, int] | None = None  # of each service, while Swarm has not followed the last change
        self.restarts: dict[str, int] = {}  # of each slot
        self.delayed: set[str] = set()  # slots whose task waits for its restart
        self.calls: list[tuple[Any, ...]] = []
        self.fails: DockerException | None = None
        self.client_config = SimpleNamespace(client_call=["docker"], host=None)
        self.container = SimpleNamespace(list=self._list, inspect=self._inspect, run=self._run)
        self.image = SimpleNamespace(
            inspect=self._image, exists=lambda name: name in self.images, tag=self._tag, legacy_build=self._build,
            push=lambda name, quiet: self._call("push", name), list=self._images, remove=self._remove,
        )  # fmt: skip
        self.service = SimpleNamespace(
            inspect=lambda name: self.services[name], update=self._update, scale=self._scale, ps=self._ps
        )
        self.compose = SimpleNamespace(up=self._up)
        self.made_with: dict[str, Any] = {}

    def add(
        self, image: str, *, labels: dict[str, str], networks: Sequence[str] = ("x_serving", "x_control"), **state: Any
    ) -> str:
        number = len(self.containers)
        found = {
            name: SimpleNamespace(
                ip_address=f"10.0.{number}.{place}", aliases=["replicas"] if name.endswith("_serving") and labels else None
            )
            for place, name in enumerate(networks)
        }
        name = f"c{number}"
        self.containers[name] = SimpleNamespace(
            name=name,
            image=self.images[image],
            created=NOW - timedelta(seconds=100 - number),
            config=SimpleNamespace(image=image, labels=labels),
            state=SimpleNamespace(**{"status": "running", "running": True, "finished_at": None, **state}),
            network_settings=SimpleNamespace(networks=found),
            stop=lambda time: self._call("stop", name, time),
            remove=lambda: self.containers.pop(name),
        )
        return name

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """`DockerClient(...)` of the target for Compose is this client within the context."""

        def made(**settings: Any) -> FakeDocker:
            self.made_with = settings
            return self

        with mock.patch("model_sync.rollout.compose.DockerClient", made):
            yield

    def _call(self, *call: Any) -> None:
        if self.fails:
            raise self.fails
        self.calls.append(call)

    def _list(self, *, all: bool, filters: Sequence[tuple[str, str]]) -> list[SimpleNamespace]:  # noqa: A002
        if self.fails:
            raise self.fails
        wanted = dict(label.split("=", 1) for _, label in filters)
        return [each for each in self.containers.values() if wanted.items() <= each.config.labels.items()]

    def _inspect(self, name: str) -> SimpleNamespace:
        if name not in self.containers:
            raise failure(NoSuchContainer)
        return self.containers[name]

    def _run(self, image: str, **options: Any) -> None:
        self._call("run", image, options)
        self.add(image, labels=options["labels"], networks=options["networks"])

    def _up(self, services: list[str], **options: Any) -> None:
        self._call("up", services, options)
        override = yaml.safe_load(Path(self.made_with["compose_files"][-1]).read_text(encoding="utf-8"))
        [(service, changed)] = override["services"].items()
        labels = {
            "com.docker.compose.project": self.made_with["compose_project_name"],
            "com.docker.compose.service": service,
            **changed.get("labels", {}),
        }
        while (
            len(self._list(all=True, filters=[("label", f"com.docker.compose.service={service}")])) < options["scales"][service]
        ):
            self.add(changed["image"], labels=labels)

    def _image(self, name: str) -> SimpleNamespace:
        if self.fails:
            raise self.fails
        if name not in self.images:
            raise failure(NoSuchImage)
        return SimpleNamespace(id=self.images[name])

    def _tag(self, source: str, name: str) -> None:
        self._call("tag", source, name)
        self.images[name] = source

    def _build(self, context: Path, **options: Any) -> None:
        self._call("build", context, options)
        self.images[options["tags"]] = f"sha256:{len(self.images):064d}"

    def _images(self, repository: str) -> list[SimpleNamespace]:
        named = [name for name in self.images if name.startswith(f"{repository}:")]
        return [SimpleNamespace(repo_tags=[name], created=NOW + timedelta(seconds=place)) for place, name in enumerate(named)]

    def _remove(self, name: str) -> None:
        if any(each.config.image == name for each in self.containers.values()):
            raise failure()
        del self.images[name]

    def add_service(self, name: str, image: str, replicas: int) -> None:
        spec = SimpleNamespace(
            name=name,
            mode={"Replicated": {"Replicas": replicas}},
            task_template=SimpleNamespace(container_spec=SimpleNamespace(image=image)),
        )
        self.services[name] = SimpleNamespace(spec=spec)

    def _update(
        self, name: str, *, replicas: int, image: str, with_registry_authentication: bool, detach: bool, quiet: bool
    ) -> None:
        assert with_registry_authentication
        self._call("update", name, image, replicas)
        self.add_service(name, image, replicas)

    def _scale(self, scales: Mapping[str, int], detach: bool) -> None:
        for name, replicas in scales.items():
            self._call("scale", name, replicas)
            self.add_service(name, self.services[name].spec.task_template.container_spec.image, replicas)

    def _ps(self, name: str) -> list[SimpleNamespace]:
        spec = self.services[name].spec
        seen = spec.mode["Replicated"]["Replicas"] if self.slots is None else self.slots.get(name, 0)
        return [self._task(name, number, spec.task_template.container_spec) for number in range(seen)]

    def _task(self, name: str, number: int, container_spec: SimpleNamespace) -> SimpleNamespace:
        slot = f"{name}.{number}"
        return SimpleNamespace(
            id=f"{name}-{number}" + "r" * self.restarts.get(slot, 0),
            slot=number,
            desired_state="ready" if slot in self.delayed else "running",
            created_at=NOW - timedelta(seconds=number),
            status=SimpleNamespace(state="ready" if slot in self.delayed else "running"),
            spec=SimpleNamespace(container_spec=container_spec),
        )
