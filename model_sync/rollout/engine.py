"""What the targets that use Docker's client have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from python_on_whales import DockerClient, client_config
from python_on_whales.exceptions import DockerException

from model_sync.rollout.target import TargetError

PORT = 3000  # of the service's REST server
# For which what the client knows of a container or an image is not asked again. Every step makes new objects, so it only has to
# be longer than a step: with the library's 10 ms, a step would start a process for nearly every attribute that it reads.
CACHE_SECONDS = 60.0


def docker_client() -> DockerClient:
    """The client of the engine that DOCKER_HOST names."""
    client_config.CACHE_VALIDITY_PERIOD = CACHE_SECONDS
    return DockerClient()


@contextmanager
def engine_errors() -> Iterator[None]:
    """Raises what the engine answers as TargetError."""
    try:
        yield
    except DockerException as error:
        command = " ".join(map(str, error.docker_command[:4]))
        raise TargetError(f"`{command} …` failed: {(error.stderr or '').strip()[-500:]}") from error
