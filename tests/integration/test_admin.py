"""Who may change what serves: every admin call without a token, with a wrong one, with the right one; and who guesses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from benchmarks.load import free_port
from tests.integration.conftest import FULL, Server
from tests.probe import probing
from tests.published import compiled
from tests.sidecar import TOKEN, Sidecar

GUESSES = 1000 if FULL else 200
CALLS = [
    ("/reload_model", {"models": ["kcbert"]}, 200),
    ("/v1/models/kcbert/pin", {}, 200),
    ("/v1/models/kcbert/unpin", {}, 200),
    ("/v1/models/kcbert/rollback", {}, 409),  # nothing served before
    ("/v2/repository/models/kcbert/load", {}, 200),
    ("/v2/repository/models/kcbert/unload", {}, 400),
]


@dataclass
class Both:
    server: Server
    sidecar: Sidecar


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    root = tmp_path_factory.mktemp("admin")
    registry = root / "registry"
    registry.mkdir()
    compiled("kcbert", registry / "v1")
    environment = {"BUNRIWIKI_SOURCES": f"kcbert=local:{registry}"}
    sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
    environment |= {"BUNRIWIKI_MODEL_STORE": str(root / "store"), "BUNRIWIKI_SYNC_URL": sidecar.url}
    server = Server(root / "server.log", environment={**environment, "BUNRIWIKI_ADMIN_TOKEN": f"old,{TOKEN}"})
    try:
        sidecar.start()
        server.wait_until_ready()
        yield Both(server, sidecar)
    finally:
        sidecar.stop()
        server.stop()


def post(url: str, path: str, body: object, token: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.post(url + path, json=body, headers=headers, timeout=40)


@pytest.mark.parametrize(("path", "body", "status"), CALLS)
def test_only_the_right_token_is_let_in(both: Both, path: str, body: object, status: int) -> None:
    assert post(both.server.url, path, body, None).status_code == 401
    assert post(both.server.url, path, body, "wrong").status_code == 401
    answer = post(both.server.url, path, body, TOKEN)
    assert answer.status_code == status, answer.text


def test_a_reload_says_what_changed_of_each_model(both: Both) -> None:
    outcome = post(both.server.url, "/reload_model", {"models": ["kcbert"]}, TOKEN).json()["outcomes"]["kcbert"]
    assert (outcome["status"], outcome["version"]) == ("unchanged", "v1")
    at_once = post(both.server.url, "/reload_model", {"wait": False}, TOKEN)
    assert (at_once.status_code, at_once.json()) == (202, {"sync_requested": True})


def test_without_a_token_administration_is_closed_and_without_a_sidecar_nobody_answers(start: Callable[..., Server]) -> None:
    closed = start()
    assert post(closed.url, "/reload_model", {}, TOKEN).status_code == 403
    closed.stop()
    alone = start(environment={"BUNRIWIKI_ADMIN_TOKEN": TOKEN, "BUNRIWIKI_SYNC_URL": f"http://127.0.0.1:{free_port()}"})
    for path in ("/reload_model", "/v1/models/yolo/rollback"):
        answer = post(alone.url, path, {}, TOKEN)
        assert (answer.status_code, "No sidecar answers" in answer.json()["detail"]) == (503, True)
    alone.stop()


def test_wrong_tokens_do_not_slow_predictions(both: Both) -> None:
    with probing(both.server.url, every=0.02) as probe:
        began = time.monotonic()
        time.sleep(10 if FULL else 3)
        guessing = time.monotonic()
        with httpx.Client(base_url=both.server.url, timeout=40) as client, ThreadPoolExecutor(16) as pool:

            def guess(number: int) -> int:
                headers = {"Authorization": f"Bearer guess-{number}"}
                return client.post("/v1/models/kcbert/rollback", json={}, headers=headers).status_code

            guesses = Counter(pool.map(guess, range(GUESSES)))
        over = time.monotonic()
    calm, meanwhile = probe.p99(began, guessing), probe.p99(guessing, over)
    print(
        f"{GUESSES} wrong tokens in {over - guessing:.1f} s: {dict(guesses)}; p99 of predictions "
        f"{1000 * calm:.0f} ms before, {1000 * meanwhile:.0f} ms meanwhile"
    )
    assert set(guesses) <= {401, 429}
    assert set(probe.counts) == {"200"}
    assert both.sidecar.serving("kcbert") == "v1"
    if FULL:
        assert meanwhile <= 1.5 * calm
