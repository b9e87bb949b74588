"""A registry of images that asks for a password: Debian's `docker-registry`, over HTTP on 127.0.0.1."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bunriwiki.testing.containers.requirements import REGISTRY
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.processes import wait_while_running

CREDENTIALS = ("rollout", "of-the-tests")
HTPASSWD = "rollout:$2b$05$abcdefghijklmnopqrstuuuZed5HUPv8ETIZGTOl1S2yYkDII01Ei"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
START_SECONDS = 120.0


@dataclass(frozen=True)
class ImageRegistry:
    """A registry at `address`, host and port."""

    address: str

    @property
    def client_configuration(self) -> str:
        """The file `config.json` with which a client of Docker may push."""
        return json.dumps({"auths": {self.address: {"auth": base64.b64encode(":".join(CREDENTIALS).encode()).decode()}}})

    def digest(self, name: str) -> str | None:
        """The digest of the image `name`, such as `127.0.0.1:5000/bunriwiki:1.0`; None if the registry does not have it."""
        place, _, tag = name.rpartition(":")
        url = f"http://{self.address}/v2/{place.removeprefix(self.address + '/')}/manifests/{tag}"
        answer = httpx.head(url, auth=CREDENTIALS, headers={"Accept": MANIFEST}, trust_env=False)
        return answer.headers["Docker-Content-Digest"] if answer.is_success else None


@contextmanager
def image_registry(folder: Path) -> Iterator[ImageRegistry]:
    """A registry with its files in `folder`, in the network of this thread."""
    registry = ImageRegistry(f"127.0.0.1:{free_port()}")
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    configuration = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": registry.address},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(configuration))  # JSON is YAML
    log = folder / "registry.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([REGISTRY, "serve", folder / "config.yml"], stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_while_running(process, lambda: _asks(registry), START_SECONDS, log.read_text)
            yield registry
        finally:
            process.kill()


def _asks(registry: ImageRegistry) -> bool:
    """Whether it asks for a password."""
    try:
        return httpx.get(f"http://{registry.address}/v2/", trust_env=False).status_code == httpx.codes.UNAUTHORIZED
    except httpx.TransportError:
        return False
