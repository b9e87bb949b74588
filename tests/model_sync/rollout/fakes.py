"""An engine in memory, with its images, and replicas that do what a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from model_sync.rollout.comparison import Figures
from model_sync.rollout.replica_client import Answered
from model_sync.rollout.state import Image
from model_sync.rollout.target import Replica, TargetError

BASE = "repository:kept-base"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Running:
    """A replica: `ready` is what it says, `answered` what comes of golden samples, `figures` what it has counted, None if
    it does not say."""

    replica: Replica
    ready: bool = False
    answered: Answered = field(default_factory=Answered)
    figures: Figures | None = field(default_factory=Figures)
    versions: Mapping[str, str] | None = None  # those that it was asked for


@dataclass
class FakeEngine:
    """Target, images and checks in one. `wanted` replicas of the base image are ready at the start.

    `dropped` is the number of ready replicas that were missing at the worst moment after a retirement. `looked` counts the
    questions for all replicas.
    """

    wanted: int = 2
    images: set[str] = field(default_factory=lambda: {BASE})
    running: dict[str, Running] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    pruned: list[Sequence[str]] = field(default_factory=list)
    dropped: int = 0
    looked: int = 0
    fails: str = ""

    def __post_init__(self) -> None:
        for _ in range(self.wanted):
            self.add(BASE, ready=True)

    def add(self, image: str, *, ready: bool = False, trial: bool = False) -> Running:
        number = len(self.started)
        name = f"r{number}"
        self.started.append(image)
        self.running[name] = Running(Replica(name, f"id of {image}", image, f"{name}:3000", trial=trial), ready=ready)
        return self.running[name]

    def serving(self) -> list[Running]:
        """The replicas that get requests of clients."""
        return [running for running in self.running.values() if running.ready and not running.replica.trial]

    def of(self, image: str) -> list[Running]:
        return [running for running in self.running.values() if running.replica.image_name == image]

    def end(self, running: Running) -> None:
        """The replica ends by itself."""
        running.ready = False
        running.replica = replace(running.replica, exited=True)

    # Target

    def replicas(self) -> list[Replica]:
        self._require()
        self.looked += 1
        return [running.replica for running in self.running.values()]

    def identity(self, image: str) -> str | None:
        return f"id of {image}" if image in self.images else None

    def start(self, image: Image) -> None:
        self._require()
        assert image.name in self.images
        self.add(image.name)

    def start_trial(self, image: Image) -> None:
        self._require()
        self.add(image.name, trial=True)

    def retire(self, replica: Replica) -> None:
        self._require()
        gone = self.running.pop(replica.name, None)
        if gone and gone.ready and not replica.trial:
            self.dropped = max(self.dropped, self.wanted - len(self.serving()))

    # Images

    def exists(self, name: str) -> bool:
        return name in self.images

    def build(self, image: Image) -> None:
        self._require()
        self.images.add(image.name)
        self.built.append(image.name)

    def keep(self, name: str, identity: str) -> str:
        return name

    def prune(self, kept: Sequence[str]) -> list[str]:
        self.pruned.append(kept)
        removed = self.images - set(kept) - {running.replica.image_name for running in self.running.values()} - {BASE}
        self.images -= removed
        return sorted(removed)

    # Checks

    def is_ready(self, address: str) -> bool:
        return self.running[address.partition(":")[0]].ready

    def answers(self, address: str, versions: Mapping[str, str]) -> Answered:
        asked = self.running[address.partition(":")[0]]
        asked.versions = dict(versions)
        return asked.answered

    def figures(self, address: str) -> Figures | None:
        return self.running[address.partition(":")[0]].figures

    def _require(self) -> None:
        if self.fails:
            raise TargetError(self.fails)
