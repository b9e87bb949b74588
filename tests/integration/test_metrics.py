"""The metrics are right with several workers of everything, some of which die."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import Outcome, mixed_calls, run_load
from bunriwiki.artifacts.manifest import MODELS
from tests.integration.conftest import Server

TYPES = {
    "http_requests": "counter",
    "http_request_duration_seconds": "histogram",
    "model_version_info": "gauge",
    "model_load": "counter",
    "model_load_success": "counter",
    "model_hot_swap": "counter",
}


@pytest.fixture(scope="module")
def crowd(start: Callable[..., Server]) -> Server:
    """Two workers of everything."""
    server = start(environment={"BUNRIWIKI_RUNNER_WORKERS": "2", "BUNRIWIKI_GATEWAY_WORKERS": "2"})
    server.wait_for_pairs()
    return server


def scrape(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a counter."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics", timeout=10).text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def posts(server: Server) -> Counter[str]:
    """How many POSTs were counted, by status."""
    found: Counter[str] = Counter()
    for (name, labels), value in scrape(server).items():
        if name == "http_requests_total" and ("method", "POST") in labels:
            found[dict(labels)["status"]] += int(value)
    return +found


def test_names_and_types_and_zeros(crowd: Server) -> None:
    families = {one.name: one for one in text_string_to_metric_families(httpx.get(f"{crowd.url}/metrics").text)}
    assert {name: families[name].type for name in TYPES} == TYPES
    for name in ("model_load", "model_load_success", "model_hot_swap"):
        samples = {one.labels["model"]: one.value for one in families[name].samples if one.name == f"{name}_total"}
        assert samples == dict.fromkeys(MODELS, 0.0 if name == "model_hot_swap" else 2.0)
    requests = [one for one in families["http_requests"].samples if one.labels["method"] == "POST"]
    assert {one.labels["path"] for one in requests} >= {"/yolo/prediction", "/predict", "/v2/models/{model}/infer"}
    assert {(one.labels["door"], one.value) for one in requests} == {("rest", 0.0)}
    info = {(one.labels["model"], one.labels["version"]): one.value for one in families["model_version_info"].samples}
    assert info == {(model, "fallback-2"): 1.0 for model in MODELS}


def test_what_a_client_makes_up_is_no_label(crowd: Server) -> None:
    httpx.get(f"{crowd.url}/made-up/{'x' * 50}")
    httpx.request("BREW", f"{crowd.url}/made-up")
    labels = {dict(labels).get("path") for _, labels in scrape(crowd)} | {
        dict(labels).get("method") for _, labels in scrape(crowd)
    }
    assert "other" in labels
    assert not any(label and ("made-up" in label or "BREW" in label) for label in labels)


@pytest.mark.parametrize("victim", [*MODELS, "bunriwiki"])
def test_sums_are_exact_and_only_grow(crowd: Server, victim: str) -> None:
    before = posts(crowd)
    outcome = Outcome()
    load = threading.Thread(
        target=lambda: outcome.counts.update(asyncio.run(run_load(crowd.url, mixed_calls(), clients=8, seconds=8)).counts)
    )
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
            continue  # it went to the gateway worker that was killed
        assert all(now[series] >= value for series, value in last.items())
        last = now
    assert killed
    answered = Counter({status: number for status, number in outcome.counts.items() if status.isdigit()})
    counted = posts(crowd) - before
    print(f"{victim} killed: {dict(outcome.counts)} seen, {dict(counted)} counted")
    missing = sum(answered.values()) - sum(counted.values())
    # An answer is counted when it was sent. A gateway worker may be killed between the two.
    assert missing == 0 if victim != "bunriwiki" else 0 <= missing <= 1
    crowd.wait_until_ready(20)
