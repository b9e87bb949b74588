"""Servers to measure, each in processes of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.processes import wait_while_running

BIN = SERVE_ENV / "bin"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A server that is ready: the parent of its processes, and its port."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(command: Sequence[str], probe: str, variables: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The server that `command` starts in the repository with `{port}` replaced, once it answers 200 at the path `probe`.

    `variables` are added to the environment, whose PATH begins with the serving environment. The server ends with the block.
    """
    port = free_port()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "BUNRIWIKI_LOG_REQUESTS": "false", **(variables or {})}
    words = [word.format(port=port) for word in command]
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    served = Served(process, port)

    def is_ready() -> bool:
        try:
            return httpx.get(served.url + probe).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_while_running(process, is_ready, START_SECONDS, lambda: f"{words} did not start")
        yield served
    finally:
        process.terminate()
        process.wait()
