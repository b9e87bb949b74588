"""The engine behind the allow-list of the rollout, with the real Envoy, on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx

from bunriwiki.testing.containers.images import envoy_program
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.processes import wait_while_running

START_SECONDS = 120.0


@contextmanager
def allow_list(engine: Path, folder: Path) -> Iterator[str]:
    """DOCKER_HOST of the engine with the socket `engine`. Envoy's configuration has other addresses than in its container."""
    port, check = free_port(), free_port()
    text = (ROOT / "deploy" / "rollout" / "engine.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("/var/run/docker.sock", str(engine)),
        ("address: 0.0.0.0, port_value: 2375", f"address: 127.0.0.1, port_value: {port}"),
        ("address: engine-check, port_value: 8080", f"address: 127.0.0.1, port_value: {check}"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    configuration = folder / "engine.yaml"
    configuration.write_text(text, encoding="utf-8")
    commands = {
        "check": [sys.executable, "-m", "model_sync.rollout.gate", str(check)],
        "envoy": [str(envoy_program()), "--config-path", str(configuration), "--log-level", "warning", "--concurrency", "1"],
    }
    commands["envoy"] += ["--use-dynamic-base-id"]
    with ExitStack() as stack:
        for name, url in (("check", f"http://127.0.0.1:{check}/livez"), ("envoy", f"http://127.0.0.1:{port}/_ping")):
            log = folder / f"{name}.log"
            output = stack.enter_context(log.open("wb"))
            process = stack.enter_context(subprocess.Popen(commands[name], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(process.kill)
            wait_while_running(process, partial(_answers, url), START_SECONDS, log.read_text)
        yield f"tcp://127.0.0.1:{port}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
