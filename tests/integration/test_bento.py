"""`bentoml build`, and the Bento served, answers as the repository does."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from bunriwiki.testing.paths import PHOTOS
from bunriwiki.testing.server import Server
from tests.integration.conftest import Bento


def answers(server: Server) -> list[object]:
    photo = (PHOTOS / "can.jpg").read_bytes()
    return [
        httpx.post(f"{server.url}/yolo/prediction?advice=true", files={"image": photo}).json(),
        httpx.post(f"{server.url}/kcbert/prediction", json={"text": "좋은 하루 보내세요"}).json(),
        httpx.post(f"{server.url}/predict", json={"text": "정말 재미있어요"}).json(),
    ]


def test_a_bento_contains_no_tests_and_no_environment(bento: Bento) -> None:
    [folder] = (bento.home / "bentos" / "bunriwiki").glob("*/src")
    assert not (folder / "tests").exists()
    assert not (folder / "bunriwiki" / "testing").exists()
    assert not list(folder.glob(".venv*"))


def test_a_bento_answers_as_the_repository_does(server: Server, start: Callable[..., Server], bento: Bento) -> None:
    served = start(target=bento.tag, folder=bento.home, environment=bento.environment)
    assert answers(served) == answers(server)
    served.stop()
