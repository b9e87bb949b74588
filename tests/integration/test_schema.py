"""schemathesis with the OpenAPI document of a service with a sidecar."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import Sidecar
from tests.integration.conftest import FULL

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def server(start: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "versions").mkdir()
    settings = {"BUNRIWIKI_FEEDBACK_KEY": "k" * 32, "BUNRIWIKI_MODEL_STORE": str(tmp_path / "store")}
    sources = {"BUNRIWIKI_SOURCES": f"sentiment=local:{tmp_path / 'versions'}"}
    sidecar = Sidecar(tmp_path / "store", tmp_path / "sidecar.log", {**settings, **sources}).start()
    try:
        sidecar.wait_for_status("sentiment", "unchanged")
        server = start(environment={**settings, "BUNRIWIKI_SYNC_PORT": str(sidecar.port)})
        yield server
        server.stop()
    finally:
        sidecar.stop()


def test_valid_and_invalid_requests_are_answered_as_the_document_says(server: Server) -> None:
    schemathesis = str(Path(sys.executable).with_name("schemathesis"))
    options = {
        "--url": server.url,
        "--checks": CHECKS,
        "--phases": "examples,coverage,fuzzing",
        "--max-examples": "300" if FULL else "25",
        "--seed": "1",
        "--request-timeout": "30",
    }
    command = [
        schemathesis,
        "run",
        f"{server.url}/docs.json",
        "--no-color",
        *(word for pair in options.items() for word in pair),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    assert server.is_ready()
