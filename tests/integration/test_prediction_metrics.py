"""The metrics of predictions are exact over all protocols, also when workers are killed, and after many restarts."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.telemetry.metrics import FOLDER
from bunriwiki.telemetry.metrics.gauges import PUBLISH_SECONDS
from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.metrics_table import check_metrics_table
from bunriwiki.testing.protocol_load import LATE, ProtocolLoad, Seen, tokens
from bunriwiki.testing.scraped import Scraped, ScrapeDifference
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL

CLIENTS = 14
SECONDS = 20.0 if FULL else 6.0
MAX_QUEUE_SIZE = 6  # small, so that requests are rejected
ROUNDS = 34 if FULL else 2  # of killing all six runner workers
SCRAPE_SECONDS = 0.1
FOLDER_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def crowd(start: Callable[..., Server]) -> Iterator[Server]:
    """Two workers of everything, behind short queues."""
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_GATEWAY_WORKERS": "2",
        "BUNRIWIKI_MAX_QUEUE_SIZE": str(MAX_QUEUE_SIZE),
    }
    server = start(grpc=True, environment=environment)
    server.wait_for_all_workers()
    yield server
    server.stop()


def kill(server: Server, victim: str) -> None:
    worker = server.workers()[victim]
    worker.kill()
    worker.wait()


def load_and_kill(server: Server, victim: str) -> tuple[Seen, Scraped, Scraped]:
    """What clients saw while a worker of `victim` was killed, and scrapes before and after. No counter goes down meanwhile."""
    before = last = Scraped(server)
    killed = victim == "nobody"
    with ProtocolLoad(server, CLIENTS) as seen:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or not killed:
            time.sleep(0.2)
            if not killed and sum(seen.requests.values()) > 100:
                kill(server, victim)
                killed = True
                end = time.monotonic() + SECONDS
            try:
                now = Scraped(server)
            except httpx.TransportError:
                continue  # it went to the gateway worker that was killed
            counted = now.counters()
            assert all(counted[series] >= value for series, value in last.counters().items())
            last = now
    server.wait_until_ready()
    server.wait_for_all_workers()
    wait_until(lambda: Scraped(server).by("workers", "role") == Scraped(server).by("workers_expected", "role"))
    time.sleep(2 * PUBLISH_SECONDS)  # until then, calls whose requests were all too late are counted
    return seen, before, Scraped(server)


def in_progress(scraped: Scraped) -> Counter[tuple[str, ...]]:
    """What waits and what is being answered, by model or protocol."""
    return scraped.by("queue_depth", "model") + scraped.by("requests_in_flight", "protocol")


@pytest.mark.parametrize("victim", ["nobody", "kcbert", "sentiment", "bunriwiki"])
def test_what_is_counted_is_what_clients_saw(crowd: Server, victim: str) -> None:
    seen, before, after = load_and_kill(crowd, victim)
    counted = ScrapeDifference(before, after)
    print(f"{victim} killed: {seen.inputs} inputs answered, {dict(seen.failures)} failed, {seen.lost} lost")

    requests = counted.of_models("prediction_duration_seconds_count")
    inputs = counted.of_models("predictions_total")
    failures = {model: +reasons for model, reasons in counted.failures().items()}
    shed = {reason: counted.of_models("shed_requests_total", reason=reason) for reason in ("queue_full", "deadline", "memory")}
    overloaded = Counter({model: reasons["overloaded"] for model, reasons in failures.items()})
    late = Counter({model: reasons["deadline"] for model, reasons in failures.items()})
    called_late = late - shed["deadline"]  # the deadline passed in the call, which the runner answered nevertheless
    assert not shed["deadline"] - late
    assert (shed["queue_full"], shed["memory"]) == (+overloaded, Counter())
    for phase in ("read", "queue", "encode"):
        assert counted.of_models("phase_duration_seconds_count", phase=phase) == requests
    calls = counted.of_models("batch_size_count")
    assert counted.of_models("phase_duration_seconds_count", phase="forward") == calls
    wait_until(lambda: not in_progress(Scraped(crowd)))  # workers publish these gauges, one after the other
    starts = counted.by("worker_starts_total", "role")
    role = "gateway" if victim == "bunriwiki" else victim
    assert starts == ({} if victim == "nobody" else {(role,): 1})
    if victim != "bunriwiki":
        assert seen.lost == 0
        assert requests == seen.requests
        assert inputs == seen.inputs
        assert counted.of_models("batch_size_sum") == inputs + called_late
        assert failures == dict(seen.failures)
        text_tokens = counted.of_models("batch_tokens_total") - counted.of_models("batch_padding_tokens_total")
        assert text_tokens == {"kcbert": seen.tokens + called_late["kcbert"] * tokens(LATE)}
    else:
        # A gateway worker counts an answer before it is sent, and its clients lose those that were on the way.
        assert 0 <= sum((requests - seen.requests).values()) <= seen.lost <= CLIENTS
        assert not seen.requests - requests
        assert not seen.inputs - inputs
        assert not inputs - counted.of_models("batch_size_sum")  # what is answered has been called
    # The load has every kind of error that a client can cause.
    assert {"overloaded", "invalid_input", "deadline"} <= {reason for reasons in seen.failures.values() for reason in reasons}


def test_the_table_of_the_documentation_is_what_a_scrape_has(crowd: Server) -> None:
    """Runs after the load: the scrape has every kind of failure and phase."""
    sizes = {"M": len(MODELS), "V": 16, "R": 45, "A": 4, "C": 20, "W": 8, "K": 1}
    check_metrics_table("The service", Scraped(crowd).families, sizes)


def test_promtool_has_no_complaint(crowd: Server) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install the package prometheus of Debian"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=Scraped(crowd).text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_after_many_restarts_a_scrape_is_quick_and_exact(crowd: Server) -> None:
    metrics = Path(crowd.workers()["bunriwiki"].environ()[FOLDER]).parent
    before = Scraped(crowd)
    loads = crowd.metric("model_load_total")
    first = scrape_seconds(crowd)
    answered: Counter[str] = Counter()
    for _ in range(ROUNDS):
        kill_all_runners(crowd)
        crowd.wait_for_all_workers()
        for call, model in zip(mixed_calls()[:3], MODELS, strict=True):
            answer = CLIENT.post(
                crowd.url + call.path, content=call.body, headers={"Content-Type": call.media_type}, timeout=60
            )
            answered[model] += answer.status_code == 200
    seconds = scrape_seconds(crowd)
    counted = ScrapeDifference(before, Scraped(crowd))
    files = [path for path in metrics.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(
        f"after {6 * ROUNDS} restarts: a scrape takes {1000 * seconds:.0f} ms ({1000 * first:.0f} before), "
        f"{len(files)} files with {size / 2**20:.1f} MB"
    )
    assert seconds < SCRAPE_SECONDS
    assert len(files) <= 2 + 2 * 2 + 6  # the archive, the supervisor's file, two of each gateway worker, one of each other
    assert size < FOLDER_BYTES
    assert answered.total() == 3 * ROUNDS
    assert counted.of_models("predictions_total") == answered
    assert crowd.metric("model_load_total") - loads == 6 * ROUNDS
    assert counted.by("worker_starts_total", "role") == {(model,): 2 * ROUNDS for model in MODELS}


def scrape_seconds(server: Server) -> float:
    """The seconds that a scrape takes over a connection that Prometheus keeps open: the median of ten."""
    seconds = []
    with httpx.Client(base_url=server.url, timeout=10) as client:
        for _ in range(11):
            begun = time.perf_counter()
            assert client.get("/metrics").status_code == 200
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def kill_all_runners(server: Server) -> None:
    """Kill all workers of all models at once, and wait until the supervisor knows."""
    victims = [worker for name, worker in server.all_workers() if name in MODELS]
    for victim in victims:
        victim.kill()
    for victim in victims:
        victim.wait()
