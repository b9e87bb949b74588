"""One store for several services, and several gateways in one: they change versions together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from tests.integration.conftest import Server

AGREED = 1.0  # seconds after which no gateway answers with the old version any more


def test_two_services_follow_one_store(start: Callable[..., Server], store: StoreWriter) -> None:
    environment = {"BUNRIWIKI_MODEL_STORE": str(store.layout.root)}
    one, two = start(environment=environment), start(environment=environment)
    assert promote(store, "kcbert", "v1", "a test", "operator") == 2
    for server in (one, two):
        server.wait_until_it_serves("kcbert", "v1")
        [mine] = [worker for worker in server.model("kcbert")["workers"] if worker["here"]]
        assert mine["serving"] == "v1"
        assert server.metric("model_version_info", model="kcbert", version="v1") == 1
        assert server.metric("model_hot_swap_total", model="kcbert") == 1
    two.stop()
    assert promote(store, "kcbert", "v2", "a test", "operator") == 1  # nobody waits for the one that has left
    one.stop()


def test_two_gateways_agree_within_a_second(start: Callable[..., Server], store: StoreWriter) -> None:
    server = start(environment={"BUNRIWIKI_MODEL_STORE": str(store.layout.root), "BUNRIWIKI_GATEWAY_WORKERS": "2"})
    seen: list[tuple[float, str]] = []  # when a request was sent, and who answered it
    over = False

    def ask() -> None:
        while not over:  # a new connection each time: any of the gateways may take it
            sent = time.monotonic()
            response = httpx.post(f"{server.url}/predict", json={"text": "정말 재미있어요"}, headers={"Connection": "close"})
            assert response.status_code == 200
            seen.append((sent, response.headers["X-Model-Version"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    spreads = []
    try:
        for version, before in (("v1", "fallback-2"), ("v2", "v1"), ("v3", "v2")):
            promote(store, "sentiment", version, "a test", "operator")
            time.sleep(2)
            first = min(sent for sent, answered in seen if answered == version)
            spreads.append(max(sent for sent, answered in seen if answered == before) - first)
    finally:
        over = True
        for thread in threads:
            thread.join()
    late = [round(1000 * spread) for spread in spreads]
    print(f"{len(seen)} answers; the last old one was asked for {late} ms after the first new one")
    assert max(spreads) < AGREED
    server.stop()
