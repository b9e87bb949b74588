"""The metrics are exact with several workers of everything, also when workers are killed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.load import Outcome, run_load
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.integration.conftest import PAUSE_SECONDS

TYPES = {
    "http_requests": "counter",
    "http_request_duration_seconds": "histogram",
    "model_version_info": "gauge",
    "model_load": "counter",
    "model_load_success": "counter",
    "model_hot_swap": "counter",
}


@pytest.fixture(scope="module")
def crowd(start: Callable[..., Server]) -> Iterator[Server]:
    """Two workers of everything."""
    server = start(environment={"BUNRIWIKI_RUNNER_WORKERS": "2", "BUNRIWIKI_GATEWAY_WORKERS": "2"})
    server.wait_for_all_workers()
    yield server
    server.stop()


def scrape(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a counter."""
    families = text_string_to_metric_families(CLIENT.get(f"{server.url}/metrics", timeout=10).text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def posts(server: Server) -> Counter[str]:
    """The number of POSTs counted, by status."""
    found: Counter[str] = Counter()
    for (name, labels), value in scrape(server).items():
        if name == "http_requests_total" and ("method", "POST") in labels:
            found[dict(labels)["status"]] += int(value)
    return +found


def test_names_and_types_and_zeros(crowd: Server) -> None:
    families = {family.name: family for family in text_string_to_metric_families(CLIENT.get(f"{crowd.url}/metrics").text)}
    assert {name: families[name].type for name in TYPES} == TYPES
    for name in ("model_load", "model_load_success", "model_hot_swap"):
        samples = {sample.labels["model"]: sample.value for sample in families[name].samples if sample.name == f"{name}_total"}
        assert samples == dict.fromkeys(MODELS, 0.0 if name == "model_hot_swap" else 2.0)
    requests = [sample for sample in families["http_requests"].samples if sample.labels["method"] == "POST"]
    assert {sample.labels["path"] for sample in requests} >= {"/yolo/prediction", "/predict", "/v2/models/{model}/infer"}
    assert {(sample.labels["protocol"], sample.value) for sample in requests} == {("rest", 0.0)}
    info = {
        (sample.labels["model"], sample.labels["version"]): sample.value for sample in families["model_version_info"].samples
    }
    assert info == {(model, BUNDLED_VERSION): 1.0 for model in MODELS}


def test_unknown_paths_and_methods_are_no_labels(crowd: Server) -> None:
    CLIENT.get(f"{crowd.url}/unknown/{'x' * 50}")
    CLIENT.request("BREW", f"{crowd.url}/unknown")
    labels = {dict(labels).get("path") for _, labels in scrape(crowd)} | {
        dict(labels).get("method") for _, labels in scrape(crowd)
    }
    assert "other" in labels
    assert not any(label and ("unknown" in label or "BREW" in label) for label in labels)


@pytest.mark.parametrize("victim", [*MODELS, "bunriwiki"])
def test_sums_are_exact_and_only_grow(crowd: Server, victim: str) -> None:
    before = posts(crowd)
    outcome = Outcome()
    requests = run_load(crowd.url, mixed_calls(), clients=8, seconds=8, pause=PAUSE_SECONDS)
    load = threading.Thread(target=lambda: outcome.counts.update(asyncio.run(requests).counts))
    load.start()
    last = scrape(crowd)
    killed = False
    while load.is_alive():
        time.sleep(0.2)
        if not killed and sum((posts(crowd) - before).values()) > 50:
            crowd.workers()[victim].kill()
            killed = True
        try:
            now = scrape(crowd)
        except httpx.TransportError:
            continue  # the scrape went to the gateway worker that was killed
        assert all(now[series] >= value for series, value in last.items())
        last = now
    assert killed
    answered = Counter({status: number for status, number in outcome.counts.items() if status.isdigit()})
    counted = posts(crowd) - before
    print(f"{victim} killed: {dict(outcome.counts)} seen, {dict(counted)} counted")
    lost = outcome.counts["closed"] + outcome.counts["timeout"]
    # An answer is counted before it is sent. When a gateway worker is killed, its clients lose those that were on the way.
    assert 0 <= counted.total() - answered.total() <= (lost if victim == "bunriwiki" else 0)
    assert not answered - counted
    crowd.wait_until_ready()
