"""Locust loads the real service, as `make load` does: no request fails, and the report is kept in build/load/."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx

from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.server import Server
from bunriwiki.testing.server_process import BINARIES, ServerProcess
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL

REPORT = ROOT / "build" / "load" / "report.html"
SECONDS = 60 if FULL else 12
USERS = 16 if FULL else 8
REQUESTS = {
    "/yolo/prediction?advice=true", "/kcbert/prediction", "/predict", "/v2/models/kcbert/infer",
    "ModelInfer yolo", "ModelInfer kcbert", "ModelInfer sentiment",
}  # fmt: skip


def make_load(host: str, grpc_host: str) -> list[str]:
    """The command of `make load`, with the programs of this environment."""
    wanted = ["make", "--no-print-directory", "--dry-run", "load", f"HOST={host}", f"GRPC_HOST={grpc_host}", f"DEV={BINARIES}"]
    printed = subprocess.run(wanted, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shlex.split(printed.splitlines()[-1].removeprefix("exec "))


def headless(host: str, grpc_host: str, seconds: int, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of a run without the page, and its figures by kind of request."""
    options = ["--headless", f"--users={USERS}", f"--spawn-rate={USERS}", f"--run-time={seconds}s", "--json", *more]
    ran = subprocess.run([*make_load(host, grpc_host), *options], cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stderr[-3000:])
    return ran.returncode, json.loads(ran.stdout)


def test_no_request_fails(server: Server) -> None:
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    code, found = headless(server.url, server.grpc_address, SECONDS, f"--html={REPORT}")
    for kind in found:
        print(kind["name"], kind["num_requests"], f"{kind['total_response_time'] / kind['num_requests']:.0f} ms")
    assert {kind["name"] for kind in found} == REQUESTS
    assert [kind["num_failures"] for kind in found] == [0] * len(REQUESTS)
    assert code == 0
    report = REPORT.read_text(encoding="utf-8")
    assert all(name in report for name in ("/kcbert/prediction", "ModelInfer sentiment"))


def test_failed_requests_fail_the_run() -> None:
    """Nothing listens there."""
    code, found = headless(f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", 3)
    assert sum(kind["num_requests"] for kind in found) == sum(kind["num_failures"] for kind in found) > 0
    assert code == 1


def test_the_page_starts_a_load(server: Server, tmp_path: Path) -> None:
    port = free_port()
    command = [*make_load(server.url, server.grpc_address), f"--web-port={port}"]
    with ServerProcess(["env", f"--chdir={ROOT}", *command], port, "/", folder=tmp_path) as page:
        form = {"user_count": "2", "spawn_rate": "2", "host": server.url}
        assert httpx.post(f"{page.url}/swarm", data=form, timeout=10).json()["success"]

        def stats() -> dict[str, Any]:
            return dict(httpx.get(f"{page.url}/stats/requests", timeout=10).json())

        wait_until(lambda: stats()["stats"][-1]["num_requests"] > 5, 60, stats, interval=0.5)
        assert stats()["errors"] == []
