"""What runs replicas: the interface of each kind of engine. A new kind is one file, and an entry where the process starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model_sync.rollout.state import Image

TRIAL_LABEL = "bunriwiki.rollout.trial"


class TargetError(Exception):
    """The engine did not do what it should. The message says what it answered. The step is tried again."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as the engine knows it.

    `image` is its image's identity, as `Target.identity` returns it. `address` is the host and port at which the rollout
    reaches it, empty while it has none. `exited`: it ended, and stays ended. A `trial` gets no requests of clients.
    """

    name: str
    image: str
    image_name: str
    address: str
    exited: bool = False
    trial: bool = False


class Target(Protocol):
    """The replicas of one service. Every method raises TargetError, and may be called again after it.

    What exists in the engine is the truth: a method must not depend on what an earlier process knew.
    """

    def replicas(self) -> Sequence[Replica]:
        """All replicas, also those that ended and are still there; those that began first come first."""

    def identity(self, image: str) -> str | None:
        """What `Replica.image` is for replicas of this image; None if the engine does not have it."""

    def start(self, image: Image) -> None:
        """Start one more replica, which gets requests as soon as it is ready. Returns when the engine has accepted it."""

    def start_trial(self, image: Image) -> None:
        """Start a replica without the model store, that gets no requests of clients."""

    def retire(self, replica: Replica) -> None:
        """Have the replica answer what it has begun, and remove it. Returns when it is gone, or when the engine has accepted
        that. It may be gone already."""


class Images(Protocol):
    """The images of the service in the engine. Every method raises TargetError."""

    def exists(self, name: str) -> bool:
        """Whether the engine has the image, and where a registry is configured, it was pushed."""

    def build(self, image: Image) -> None:
        """Make the image, and push it where a registry is configured. To build an image again changes nothing."""

    def keep(self, name: str, identity: str) -> str:
        """A name under which the image of a replica stays, whatever `name` refers to later; `name` itself where the target
        has no other identity."""

    def prune(self, kept: Sequence[str]) -> list[str]:
        """Remove the images that were built here, and their Bentos, but for those named in `kept`; returns their names."""
