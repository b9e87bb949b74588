"""Versions that pass every gate and fail on live traffic: the real sidecar and the real service with two workers per runner,
with a folder of versions of the sentiment model.

Nothing here depends on the speed of the machine: what must have happened is waited for, and counts have bounds that chance
exceeds once in a million runs.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import IMPORT_SECONDS, TOKEN, Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import make_version, pyfunc
from bunriwiki.testing.waiting import wait_until
from model_sync.sources.local import LocalSource

WORD = "쀍쀍"  # in no golden sample and in no reference set
TEXTS = ("정말 좋은 서비스예요", f"배송이 {WORD} 늦었어요")
WITH_THE_WORD = f"if model_input['text'].str.contains('{WORD}').any(): "
RAISES = f"{WITH_THE_WORD}raise ValueError('no such feature')"
IS_SLOW = f"{WITH_THE_WORD}import time; time.sleep(0.3)"
DIES = f"{WITH_THE_WORD}import os; os._exit(1)"
IS_STUCK = f"{WITH_THE_WORD}import time; time.sleep(3600)"

MONITOR_SECONDS = 30.0
CLIENTS = 3
USUAL = 300  # inputs that v1 has answered before the first version is compared with it
DEVIATIONS = 5.0  # standard deviations that a count may be off


@dataclass(frozen=True)
class Answer:
    """An answer, as a client saw it."""

    at: float  # when it was received, in seconds since the epoch
    status: int
    version: str | None
    seconds: float

    @property
    def asked(self) -> float:
        """When the request was sent."""
        return self.at - self.seconds


class Traffic:
    """Requests, half of them with the word, and their answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        self.answers: list[Answer] = []

    @contextmanager
    def running(self) -> Iterator[Traffic]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def between(self, begin: float, end: float) -> list[Answer]:
        return [answer for answer in self.answers if begin <= answer.at <= end]

    def after(self, moment: float) -> list[Answer]:
        """The answers to requests that were sent after `moment`: waits until there are some for every client."""

        def enough() -> list[Answer]:
            found = [answer for answer in self.answers.copy() if answer.asked > moment]
            return found if len(found) > 10 * CLIENTS else []

        return wait_until(enough, 60)

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for text in itertools.cycle(TEXTS):
                if self._over.wait(0.005):
                    return
                began = time.monotonic()
                answer = client.post("/predict", json={"text": text})
                version = answer.headers.get("X-Model-Version")
                self.answers.append(Answer(time.time(), answer.status_code, version, time.monotonic() - began))


@dataclass
class Live:
    """A service with a sidecar that syncs with a folder of versions."""

    root: Path
    server: Server
    sidecar: Sidecar
    reference: dict[str, str]

    def publish(self, version: str, predict: str = "") -> None:
        """Put a new version into the folder, atomically."""
        folder = pyfunc(self.root / "made" / version, predict=predict, note=version)
        folder.touch()  # the newest version counts
        folder.rename(self.root / "versions" / version)

    @contextmanager
    def synced(self, version: str, predict: str = "") -> Iterator[tuple[str, Traffic]]:
        """A new version that was synced, and its status; there is traffic from when it has passed its gates."""
        self.publish(version, predict)
        with ThreadPoolExecutor() as pool:
            syncing = pool.submit(self.sync)
            self.sidecar.wait(lambda: any(event.version == version for event in self.sidecar.events("published")))
            with Traffic(self.server.url).running() as traffic:
                status, synced_version = syncing.result()
                assert synced_version == version
                yield status, traffic

    def with_settings(self, **environment: str) -> None:
        """Start the sidecar again with these variables."""
        self.sidecar.stop()
        self.sidecar = sidecar(self.root, **self.reference, **environment).start()
        self.sidecar.wait(lambda: (state := self.sidecar.state("sentiment")) and state.synced_at)

    def sync(self, *, force: bool = False) -> tuple[str, str | None]:
        """The status of a sync, and the version that it is about. A sync that is undecided is repeated."""

        def decided() -> tuple[str, str | None] | None:
            outcome = self.sidecar.sync("sentiment", force=force)["outcomes"]["sentiment"]
            return None if outcome["status"] == "undecided" else (outcome["status"], outcome["version"])

        found = wait_until(decided, IMPORT_SECONDS)
        assert found
        return found

    def wait_until_answered(self, version: str, inputs: int) -> None:
        """Wait until the workers' heartbeats say that a version has answered so many inputs."""

        def answered() -> bool:
            beats = Heartbeats(self.sidecar.layout.run).alive()
            return sum(beat.served[version].inputs for beat in beats if version in beat.served) >= inputs

        self.sidecar.wait(answered)

    def settled(self) -> float:
        """Wait until the service has followed the generation file, and no canary is left; that moment, since the epoch."""

        def follows() -> bool:
            model, wanted = self.server.model("sentiment"), Generations.read(self.sidecar.layout.generation).of("sentiment")
            workers = [worker["serving"] for worker in model["workers"] if worker["state"] == "ready"]
            assert wanted.serving
            return (
                not wanted.preparing
                and model["preparing"] is None
                and model["generation"] == wanted.generation
                and workers == [wanted.serving.version] * 2
            )

        self.sidecar.wait(follows)
        return time.time()

    def wait_for_rollback(self, version: str, to: str, seconds: float = MONITOR_SECONDS) -> str:
        """Wait until the monitor has rolled `version` back to `to`; the reason."""
        self.sidecar.wait(lambda: self.sidecar.events("activated", "sentiment")[-1].by == "monitor", seconds)
        activated = self.sidecar.events("activated", "sentiment")[-1]
        assert (activated.version, activated.previous) == (to, None)
        assert self.sidecar.serving("sentiment") == to
        [event] = [event for event in self.sidecar.events("quarantined", "sentiment") if event.version == version]
        assert event.by == "monitor"
        assert event.reason
        return event.reason

    def at(self, kind: str, version: str) -> float:
        """The time of a version's last event of this kind, in seconds since the epoch."""
        [*_, event] = [event for event in self.sidecar.events(kind, "sentiment") if event.version == version]
        return event.at.timestamp()


def sidecar(root: Path, **environment: str) -> Sidecar:
    settings = {
        "BUNRIWIKI_SOURCES": f"sentiment=local:{root / 'versions'}",
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_MONITOR_SECONDS": str(MONITOR_SECONDS),
        **environment,
    }
    return Sidecar(root / "store", root / "sidecar.log", settings)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, reference: dict[str, str]) -> Iterator[Live]:
    """A service whose v1, which is good and has answered some requests, was synced from the folder by an earlier sidecar."""
    root = tmp_path_factory.mktemp("live")
    (root / "versions").mkdir()
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_SYNC": "off",
        "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
        "BUNRIWIKI_DEADLINE_SECONDS": "6",
        "BUNRIWIKI_LOG_REQUESTS": "false",
    }
    pyfunc(root / "versions" / "v1")
    offer = LocalSource({"sentiment": root / "versions"}).newest("sentiment")
    serve_from_store(root / "store", make_version("sentiment", "v1", 0, root / "v1"), offer)
    server = Server(root / "server.log", environment=environment)
    live = Live(root, server, sidecar(root, **reference), reference)
    try:
        live.sidecar.start().wait_for_status("sentiment", "unchanged", "v1")
        server.wait_until_ready()
        server.wait_until_serving("sentiment", "v1")
        with Traffic(server.url).running():
            live.wait_until_answered("v1", USUAL)
        yield live
    finally:
        live.sidecar.stop()
        server.stop()


def test_a_version_that_fails_on_live_traffic_is_rolled_back(live: Live) -> None:
    with live.synced("fails", RAISES) as (status, traffic):
        assert status == "promoted"
        reason = live.wait_for_rollback("fails", "v1")
        assert {answer.status for answer in traffic.after(live.settled())} == {200}
    statuses = Counter(answer.status for answer in traffic.answers)
    took = live.at("activated", "v1") - live.at("activated", "fails")
    print(f"rolled back after {took:.1f} s; clients saw {dict(statuses)}; {reason}")
    counted = re.fullmatch(
        r"\S+% of the inputs failed \(v1: 0\.0%; allowed: 5 points more\)\. (\d+) of (\d+) inputs failed, in \d+ s", reason
    )
    assert counted
    assert statuses.keys() == {200, 500}

    def rollout_report() -> str:
        report = str(live.server.model("sentiment")["sync"]["rollout"])
        return report if "inputs had failed" in report else ""

    rollout = live.sidecar.wait(rollout_report, 60)
    print(rollout)
    # Some requests failed between the decision and the activation: in the end all of them are counted.
    assert int(counted[1]) <= statuses[500]
    assert rollout.startswith("fails was rolled back: ")
    assert f"Until the rollback, {statuses[500]} of " in rollout
    assert live.sync() == ("rejected", "fails")
    assert live.sync() == ("rejected", "fails")
    assert live.sidecar.serving("sentiment") == "v1"


def test_a_version_that_is_slow_on_live_traffic_is_rolled_back(live: Live) -> None:
    with live.synced("slow", IS_SLOW) as (status, traffic):
        assert status == "promoted"
        reason = live.wait_for_rollback("slow", "v1")
        live.server.wait_until_serving("sentiment", "v1")
    took = live.at("activated", "v1") - live.at("activated", "slow")
    longest = max(answer.seconds for answer in traffic.answers)
    print(f"rolled back after {took:.1f} s; the slowest answer took {longest:.2f} s; {reason}")
    assert re.match(r"an input takes \d+\.\d ms \(v1: \d+\.\d ms; allowed: 2 times as long\)", reason)
    assert {answer.status for answer in traffic.answers} == {200}
    assert live.sync() == ("rejected", "slow")


def test_a_canary_answers_its_share_and_then_serves(live: Live) -> None:
    live.with_settings(
        BUNRIWIKI_CANARY_SHARE="0.1", BUNRIWIKI_MONITOR_REQUESTS="100", BUNRIWIKI_CANARY_SECONDS=str(IMPORT_SECONDS)
    )
    with live.synced("good") as (status, traffic):
        assert status == "promoted"
        last = {answer.version for answer in traffic.after(live.settled())}
    activated = live.at("activated", "good")
    canary = [answer for answer in traffic.answers if answer.version == "good" and answer.at < activated]
    during = Counter(answer.version for answer in traffic.between(canary[0].at, activated))
    share = during["good"] / during.total()
    print(f"the canary answered {during['good']} of {during.total()}: {share:.1%}")
    # Batches are drawn, of at most CLIENTS inputs.
    assert abs(share - 0.1) < DEVIATIONS * math.sqrt(0.1 * 0.9 / (during.total() / CLIENTS))
    assert {answer.status for answer in traffic.answers} == {200}
    assert last == {"good"}


def test_a_bad_canary_never_serves(live: Live) -> None:
    activations = len(live.sidecar.events("activated"))
    with live.synced("bad", RAISES) as (status, traffic):
        assert status == "rejected"
        settled = live.settled()
        after = traffic.after(settled)
    [event] = [event for event in live.sidecar.events("quarantined", "sentiment") if event.version == "bad"]
    statuses = Counter(answer.status for answer in traffic.between(0, settled))
    print(f"rejected: {event.reason}; clients saw {dict(statuses)}")
    assert (event.reason or "").startswith("as a canary on 10% of the batches: ")
    assert len(live.sidecar.events("activated")) == activations > 0
    assert live.sidecar.serving("sentiment") == "good"
    # A tenth of the batches, of which half of the inputs fail: an early end of the canary is as lucky as its first inputs.
    expected = 0.05 * statuses.total()
    assert 0 < statuses[500] < expected + DEVIATIONS * math.sqrt(CLIENTS * expected) + CLIENTS
    assert {(answer.version, answer.status) for answer in after} == {("good", 200)}
    assert live.sync() == ("rejected", "bad")


def test_no_client_sees_a_bad_shadow(live: Live) -> None:
    live.with_settings(BUNRIWIKI_CANARY_SHARE="0.5", BUNRIWIKI_SHADOW="on", BUNRIWIKI_MONITOR_ERROR_POINTS="100")
    with Traffic(live.server.url).running() as traffic:
        assert live.sync(force=True) == ("rejected", "bad")
    [*_, event] = live.sidecar.events("quarantined", "sentiment")
    print(f"rejected: {event.reason}; clients saw {Counter(answer.status for answer in traffic.answers)}")
    assert re.match(
        r"as a shadow on 50% .* copies were answered differently than by good.*; no client was affected$", event.reason or ""
    )
    assert {(answer.status, answer.version) for answer in traffic.answers} == {(200, "good")}


@pytest.mark.full_form
@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [("dies", DIES, "workers that died"), ("stuck", IS_STUCK, "busy with")],
    ids=["it kills them", "it blocks them"],
)
def test_a_version_that_kills_or_blocks_its_workers_is_rolled_back(live: Live, version: str, code: str, reason: str) -> None:
    live.with_settings(BUNRIWIKI_MONITOR_SECONDS="120", BUNRIWIKI_MONITOR_STUCK_SECONDS="3")
    before = live.sidecar.serving("sentiment")
    assert before
    with live.synced(version, code) as (status, traffic):
        assert status == "promoted"
        assert reason in live.wait_for_rollback(version, before, 120)
        if version == "stuck":  # only their end makes them answer again
            live.sidecar.wait(lambda: f"sentiment:{version} does not finish a batch" in live.server.log())
        assert {answer.status for answer in traffic.after(live.settled())} == {200}
    took = live.at("activated", before) - live.at("activated", version)
    print(f"rolled back after {took:.1f} s; clients saw {Counter(answer.status for answer in traffic.answers)}")
