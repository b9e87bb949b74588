"""schemathesis with the served OpenAPI document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


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
