"""The build secrets `pip.conf` and `certificates`, with which an image installs its packages from where this machine does."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PLACES = ("index-url", "extra-index-url", "find-links")


@dataclass(frozen=True)
class Secrets:
    """The files of the secrets; an empty one if this machine needs none."""

    pip_conf: Path
    certificates: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which docker-compose.yml mounts them."""
        return {"PIP_CONF": str(self.pip_conf), "CERTIFICATES": str(self.certificates)}


@contextmanager
def pip_secrets(folder: Path, address: str) -> Iterator[Secrets]:
    """Files in `folder`, valid while the context lasts: folders that pip reads here are served over HTTP at `address`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = _configuration()
    with ExitStack() as stack:
        lines = ["[global]"]
        for name in PLACES:
            reach = partial(_reachable, address=address, root=".." if name.endswith("index-url") else ".")
            places = " ".join(stack.enter_context(reach(place)) for place in found.get(name, "").split())
            if places:
                lines.append(f"{name} = {places}")
        lines.append(f"trusted-host = {address}")
        secrets = Secrets(folder / "pip.conf", folder / "certificates.pem")
        secrets.pip_conf.write_text("\n".join(lines) + "\n")
        certificates = found.get("cert")
        secrets.certificates.write_bytes(Path(certificates).read_bytes() if certificates else b"")
        yield secrets


def _configuration() -> dict[str, str]:
    """What pip is configured with here, whichever file or variable says so."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True).stdout
    pairs = (line.partition("=") for line in listed.splitlines())
    return {name.rsplit(".", 1)[-1]: str(ast.literal_eval(value)) for name, _, value in pairs}


@contextmanager
def _reachable(place: str, address: str, root: str) -> Iterator[str]:
    """The URL of `place` for a container: its own, or that of a server at `address` if it is a folder.

    The server has the folder `root`, relative to `place`: an index may refer to files beside it.
    """
    path = Path(place.removeprefix("file://"))
    if not path.is_dir():
        yield place
        return
    with ThreadingHTTPServer((address, 0), partial(_Quiet, directory=str(path / root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{address}:{server.server_port}/{'' if root == '.' else path.name + '/'}"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        pass
