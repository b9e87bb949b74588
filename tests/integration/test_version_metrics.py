"""The metrics of each version: a canary beside the serving version, a rollback, and the end of old versions' series."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import httpx

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.telemetry.metrics import FOLDER
from bunriwiki.telemetry.metrics.value_file import ValueFile
from bunriwiki.telemetry.metrics.values import MAX, SUFFIX, Key
from bunriwiki.telemetry.metrics.versions import KEEP_SECONDS
from bunriwiki.testing.scraped import Scraped, ScrapeDifference
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until

REQUESTS = 60


def ask(server: Server, requests: int = REQUESTS) -> Counter[tuple[str, ...]]:
    """The versions that answered."""
    answered: Counter[tuple[str, ...]] = Counter()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(requests):
            answer = client.post("/kcbert/prediction", json={"text": "좋은 하루 보내세요"})
            assert answer.status_code == 200
            answered[(answer.headers["X-Model-Version"],)] += 1
    return answered


def predictions(before: Scraped, after: Scraped) -> Counter[tuple[str, ...]]:
    counted = ScrapeDifference(before, after)
    inputs = counted.by("predictions_total", "version", model="kcbert")
    assert counted.by("prediction_duration_seconds_count", "version", model="kcbert") == inputs
    return inputs


def test_a_canary_is_counted_beside_the_serving_version(pair: Server, store: StoreWriter) -> None:
    promote(store, "kcbert", "v1", "a test", "operator")
    pair.wait_until_serving("kcbert", "v1")
    before = Scraped(pair)
    answered = ask(pair)
    assert answered == {("v1",): REQUESTS}

    def canary(target: Target) -> None:
        store.start_canary("kcbert", target, Canary(share=0.5))
        wait_until(lambda: answered.update(ask(pair, 1)) or ("v2",) in answered)
        answered.update(ask(pair))
        assert predictions(before, Scraped(pair)) == answered

    promote(store, "kcbert", "v2", "a test", "operator", before_activation=canary)
    pair.wait_until_serving("kcbert", "v2")
    assert answered[("v2",)] > 10
    answered.update(ask(pair))
    promote(store, "kcbert", "v1", "a test", "operator")
    pair.wait_until_serving("kcbert", "v1")
    answered.update(ask(pair))  # it continues where it was
    gateway = pair.workers()["bunriwiki"]
    gateway.kill()
    gateway.wait()
    pair.wait_until_ready()
    after = Scraped(pair)
    assert predictions(before, after) == answered
    assert after.by("generation", "model") == {("kcbert",): 3}
    assert after.by("fallback_in_use", "model") == {("yolo",): 1, ("sentiment",): 1}
    assert not after.by("worker_generation_lag", "model")


def test_the_series_of_an_old_version_end_and_no_sum_changes(pair: Server) -> None:
    def key(name: str, kind: str, mode: str, suffix: str = "") -> str:
        return Key(kind, mode, name, name + suffix, (("model", "kcbert"), ("version", "old")), "Help.").text()

    before = Scraped(pair)
    folder = Path(pair.workers()["bunriwiki"].environ()[FOLDER])
    file = ValueFile(folder / f"999999999-1{SUFFIX}")  # as a gateway worker has left it, after the version had left memory
    words, at = file.cell(key("bunriwiki_predictions", "counter", "", "_total"))
    words[at] = 7
    words, at = file.cell(key("bunriwiki_version_seen_timestamp_seconds", "gauge", MAX))
    words[at] = time.time() - KEEP_SECONDS + 3
    assert Scraped(pair).by("predictions_total", "version", model="kcbert")[("old",)] == 7
    wait_until(lambda: ("old",) not in Scraped(pair).by("predictions_total", "version"), 60, interval=0.5)
    after = Scraped(pair)
    assert 'version="old"' not in after.text
    assert after.by("predictions_total", "model", "version") == before.by("predictions_total", "model", "version")
