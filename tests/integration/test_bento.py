"""`bentoml build`, and the Bento served, answers as the repository does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.conftest import PHOTOS, ROOT
from tests.integration.conftest import SERVE_ENV, Server


def answers(server: Server) -> list[object]:
    photo = (PHOTOS / "can.jpg").read_bytes()
    return [
        httpx.post(f"{server.url}/yolo/prediction?advice=true", files={"image": photo}).json(),
        httpx.post(f"{server.url}/kcbert/prediction", json={"text": "좋은 하루 보내세요"}).json(),
        httpx.post(f"{server.url}/predict", json={"text": "정말 재미있어요"}).json(),
    ]


def test_a_bento_answers_as_the_repository_does(server: Server, start: Callable[..., Server], tmp_path: Path) -> None:
    home = {"BENTOML_HOME": str(tmp_path)}
    build = [str(SERVE_ENV / "bin" / "bentoml"), "build", "--output", "tag"]
    built = subprocess.run(build, cwd=ROOT, env={**os.environ, **home}, capture_output=True, text=True, check=True)
    tag = built.stdout.strip().removeprefix("__tag__:")
    [folder] = (tmp_path / "bentos" / "bunriwiki").glob("*/src")
    assert not (folder / "tests").exists()
    assert not list(folder.glob(".venv*"))
    assert answers(start(target=tag, environment=home)) == answers(server)
