"""Several services that share a store, and several gateways of a service: they change versions together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import BUNDLED_VERSION

MAX_SPREAD = 1.0  # seconds from the first answer of the new version to the last request that the old version answers


@pytest.fixture(scope="module")
def gateways(start: Callable[..., Server], store: StoreWriter) -> Iterator[Server]:
    """A service with two gateways that serves from `store`."""
    server = start(environment={"BUNRIWIKI_MODEL_STORE": str(store.layout.root), "BUNRIWIKI_GATEWAY_WORKERS": "2"})
    yield server
    server.stop()


def test_two_services_serve_from_the_same_store(gateways: Server, start: Callable[..., Server], store: StoreWriter) -> None:
    other = start(environment={"BUNRIWIKI_MODEL_STORE": str(store.layout.root)})
    assert promote(store, "kcbert", "v1", "a test", "operator") == 2
    for server in (gateways, other):
        server.wait_until_serving("kcbert", "v1")
        [own] = [worker for worker in server.model("kcbert")["workers"] if worker["here"]]
        assert own["serving"] == "v1"
        assert server.metric("model_version_info", model="kcbert", version="v1") == 1
        assert server.metric("model_hot_swap_total", model="kcbert") == 1
    other.stop()
    assert promote(store, "kcbert", "v2", "a test", "operator") == 1  # the stopped service is not waited for


def test_two_gateways_change_versions_within_a_second(gateways: Server, store: StoreWriter) -> None:
    seen: list[tuple[float, str]] = []  # when a request was sent, and which version answered it
    over = threading.Event()

    def send() -> None:
        while not over.is_set():  # a new connection each time: either gateway may accept it
            sent = time.monotonic()
            response = CLIENT.post(f"{gateways.url}/predict", json={"text": "정말 재미있어요"}, headers={"Connection": "close"})
            assert response.status_code == 200
            seen.append((sent, response.headers["X-Model-Version"]))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    spreads = []
    try:
        for version, before in (("v1", BUNDLED_VERSION), ("v2", "v1"), ("v3", "v2")):
            promote(store, "sentiment", version, "a test", "operator")
            time.sleep(2 * MAX_SPREAD)  # an old version may still answer
            first = min(sent for sent, answered in seen if answered == version)
            spreads.append(max(sent for sent, answered in seen if answered == before) - first)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    late = [round(1000 * spread) for spread in spreads]
    print(f"{len(seen)} answers; the last request for an old version was sent {late} ms after the first for the new one")
    assert max(spreads) < MAX_SPREAD
