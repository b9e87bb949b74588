"""Authorization of the admin calls: without a token, with a wrong token, with the right token; and many wrong tokens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from bunriwiki.testing.probe import probing
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN, Sidecar
from bunriwiki.testing.versions import compiled
from tests.integration.conftest import FULL

GUESSES = 1000 if FULL else 200
CALLS = [
    ("/reload_model", {"models": ["kcbert"]}, 200),
    ("/v1/models/kcbert/pin", {}, 200),
    ("/v1/models/kcbert/unpin", {}, 200),
    ("/v1/models/kcbert/rollback", {"version": "v1"}, 409),  # it serves already
    ("/v1/models/kcbert/pause", {}, 409),  # there is no canary
    ("/v1/models/kcbert/promote", {}, 409),
    ("/v1/models/kcbert/abort", {}, 409),
    ("/v1/models/kcbert/cancel", {}, 409),  # nothing is being imported
    ("/v2/repository/models/kcbert/load", {}, 200),
    ("/v2/repository/models/kcbert/unload", {}, 400),
]


@dataclass
class Administered:
    """A server that accepts two tokens, with a sidecar that syncs kcbert with a folder."""

    server: Server
    sidecar: Sidecar


@pytest.fixture(scope="module")
def administered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    root = tmp_path_factory.mktemp("admin")
    registry = root / "registry"
    registry.mkdir()
    compiled("kcbert", registry / "v1")
    environment = {"BUNRIWIKI_SOURCES": f"kcbert=local:{registry}"}
    sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
    environment |= {"BUNRIWIKI_MODEL_STORE": str(root / "store"), "BUNRIWIKI_SYNC_PORT": str(sidecar.port)}
    server = Server(root / "server.log", environment={**environment, "BUNRIWIKI_ADMIN_TOKEN": f"old,{TOKEN}"})
    try:
        sidecar.start()
        server.wait_until_ready()
        yield Administered(server, sidecar)
    finally:
        sidecar.stop()
        server.stop()


def post(url: str, path: str, body: object, token: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.post(url + path, json=body, headers=headers, timeout=40)


@pytest.mark.parametrize(("path", "body", "status"), CALLS)
def test_only_the_right_token_is_accepted(administered: Administered, path: str, body: object, status: int) -> None:
    assert post(administered.server.url, path, body, None).status_code == 401
    assert post(administered.server.url, path, body, "wrong").status_code == 401
    answer = post(administered.server.url, path, body, TOKEN)
    assert answer.status_code == status, answer.text


def test_a_reload_reports_the_outcome_of_each_model(administered: Administered) -> None:
    outcome = post(administered.server.url, "/reload_model", {"models": ["kcbert"]}, TOKEN).json()["outcomes"]["kcbert"]
    assert (outcome["status"], outcome["version"]) == ("unchanged", "v1")
    without_waiting = post(administered.server.url, "/reload_model", {"wait": False}, TOKEN)
    assert (without_waiting.status_code, without_waiting.json()) == (202, {"sync_requested": True})


def test_admin_calls_are_forbidden_without_a_configured_token(server: Server) -> None:
    assert post(server.url, "/reload_model", {}, TOKEN).status_code == 403


def test_wrong_tokens_do_not_slow_predictions(administered: Administered) -> None:
    with probing(administered.server.url, every=0.02) as probe:
        began = time.monotonic()
        time.sleep(10 if FULL else 3)
        guessing = time.monotonic()
        with httpx.Client(base_url=administered.server.url, timeout=40) as client, ThreadPoolExecutor(16) as pool:

            def guess(number: int) -> int:
                headers = {"Authorization": f"Bearer guess-{number}"}
                return client.post("/v1/models/kcbert/rollback", json={}, headers=headers).status_code

            guesses = Counter(pool.map(guess, range(GUESSES)))
        over = time.monotonic()
    before, during = probe.p99(began, guessing), probe.p99(guessing, over)
    print(
        f"{GUESSES} wrong tokens in {over - guessing:.1f} s: {dict(guesses)}; p99 of predictions "
        f"{1000 * before:.0f} ms before, {1000 * during:.0f} ms during them"
    )
    assert set(guesses) <= {401, 429}
    assert set(probe.counts) == {"200"}
    assert administered.sidecar.serving("kcbert") == "v1"
    if FULL:
        assert during <= 1.5 * before


def test_admin_calls_fail_without_a_sidecar(administered: Administered) -> None:
    """The last test of the module: it stops the sidecar."""
    administered.sidecar.stop()
    for path in ("/reload_model", "/v1/models/yolo/rollback"):
        answer = post(administered.server.url, path, {}, TOKEN)
        assert (answer.status_code, "No sidecar answers" in answer.json()["detail"]) == (503, True)
