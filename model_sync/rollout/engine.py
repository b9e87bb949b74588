"""What the targets that use Docker's client have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from python_on_whales.exceptions import DockerException

from model_sync.rollout.target import TargetError

PORT = 3000  # of the service's REST server


@contextmanager
def engine_errors() -> Iterator[None]:
    """Raises what the engine answers as TargetError."""
    try:
        yield
    except DockerException as error:
        command = " ".join(map(str, error.docker_command[:4]))
        raise TargetError(f"`{command} …` failed: {(error.stderr or '').strip()[-500:]}") from error
