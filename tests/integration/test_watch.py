"""Versions that pass every gate and fail on live traffic: the real sidecar and the real service with two workers per runner, on
a folder of versions of the sentiment model."""

from __future__ import annotations

import itertools
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

from tests.integration.conftest import FULL, Server
from tests.published import pyfunc
from tests.sidecar import Sidecar

WORD = "쀍쀍"  # in no golden sample and in no reference set
TEXTS = ("정말 좋은 서비스예요", f"배송이 {WORD} 늦었어요")
WITH_THE_WORD = f"if model_input['text'].str.contains('{WORD}').any(): "
RAISES = f"{WITH_THE_WORD}raise ValueError('no such feature')"
IS_SLOW = f"{WITH_THE_WORD}import time; time.sleep(0.3)"
DIES = f"{WITH_THE_WORD}import os; os._exit(1)"
IS_STUCK = f"{WITH_THE_WORD}import time; time.sleep(3600)"

WATCH = 30.0  # seconds
CLIENTS = 3


@dataclass(frozen=True)
class Answered:
    at: float  # seconds since the epoch
    status: int
    version: str | None
    seconds: float


class Traffic:
    """Requests, half of them with the word; what came of each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.answered: list[Answered] = []

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

    def between(self, begin: float, end: float) -> list[Answered]:
        return [one for one in self.answered if begin <= one.at <= end]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for text in itertools.cycle(TEXTS):
                if self._over.wait(0.005):
                    return
                begun = time.monotonic()
                answer = client.post("/predict", json={"text": text})
                version = answer.headers.get("X-Model-Version")
                self.answered.append(Answered(time.time(), answer.status_code, version, time.monotonic() - begun))


@dataclass
class Live:
    """A service that follows a folder of versions."""

    root: Path
    server: Server
    sidecar: Sidecar

    def publish(self, version: str, predict: str = "") -> None:
        """Have a new version in the folder, all at once."""
        folder = pyfunc(self.root / "made" / version, predict=predict, note=version)
        folder.touch()  # the newest one counts
        folder.rename(self.root / "versions" / version)

    @contextmanager
    def brought(self, version: str, predict: str = "") -> Iterator[tuple[str, Traffic]]:
        """A new version that was looked at, and what the look said of it; traffic from when it has passed its gates."""
        self.publish(version, predict)
        with ThreadPoolExecutor() as pool:
            looking = pool.submit(self.look)
            self.sidecar.wait(lambda: any(one.version == version for one in self.sidecar.events("published")))
            with Traffic(self.server.url).running() as traffic:
                status, looked_at = looking.result()
                assert looked_at == version
                yield status, traffic

    def with_settings(self, **environment: str) -> None:
        """Start the sidecar anew."""
        self.sidecar.stop()
        self.sidecar = sidecar(self.root, **environment).start()
        self.sidecar.wait(lambda: (state := self.sidecar.state("sentiment")) and state.synced_at)

    def look(self, *, force: bool = False) -> tuple[str, str | None]:
        """What a look says of which version."""
        outcome = self.sidecar.look("sentiment", force=force)["outcomes"]["sentiment"]
        return outcome["status"], outcome["version"]

    def is_taken_back(self, version: str, to: str, seconds: float = WATCH) -> str:
        """Wait until a version was taken back; why."""
        self.sidecar.wait(lambda: self.sidecar.events("activated", "sentiment")[-1].by == "monitor", seconds)
        activate = self.sidecar.events("activated", "sentiment")[-1]
        assert (activate.version, activate.previous) == (to, None)
        assert self.sidecar.serving("sentiment") == to
        [event] = [one for one in self.sidecar.events("quarantined", "sentiment") if one.version == version]
        assert event.by == "monitor"
        assert event.reason
        return event.reason

    def at(self, kind: str, version: str) -> float:
        """When something happened to a version last."""
        [*_, event] = [one for one in self.sidecar.events(kind, "sentiment") if one.version == version]
        return event.at.timestamp()


def sidecar(root: Path, **environment: str) -> Sidecar:
    settings = {
        "BUNRIWIKI_SOURCES": f"sentiment=local:{root / 'versions'}",
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_MONITOR_SECONDS": str(WATCH),
        **environment,
    }
    return Sidecar(root / "store", root / "sidecar.log", settings)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service whose v1, which is good and has answered some requests, came from the folder."""
    root = tmp_path_factory.mktemp("live")
    (root / "versions").mkdir()
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_SYNC": "off",
        "BUNRIWIKI_DEADLINE_SECONDS": "6",
        "BUNRIWIKI_LOG_REQUESTS": "false",
    }
    server = Server(root / "server.log", environment=environment)
    one = Live(root, server, sidecar(root))
    try:
        server.wait_until_ready()
        one.publish("v1")
        one.sidecar.start().wait_for("sentiment", "promoted", "v1")
        server.wait_until_it_serves("sentiment", "v1")
        with Traffic(server.url).running():
            time.sleep(1)
        yield one
    finally:
        one.sidecar.stop()
        server.stop()


def test_a_version_that_fails_on_live_traffic_is_taken_back(live: Live) -> None:
    with live.brought("fails", RAISES) as (status, traffic):
        assert status == "promoted"
        reason = live.is_taken_back("fails", "v1")
        live.server.wait_until_it_serves("sentiment", "v1")
        time.sleep(1)
        saw = Counter(one.status for one in traffic.answered)
        assert {one.status for one in traffic.answered[-CLIENTS:]} == {200}
    took = live.at("activated", "v1") - live.at("activated", "fails")
    print(f"taken back after {took:.1f} s; clients saw {dict(saw)}; {reason}")
    counted = re.fullmatch(
        r"\S+% of the inputs failed, with v1 0\.0%; 5 points more .* (\d+) of (\d+) inputs failed, in \d+ s", reason
    )
    assert counted
    assert saw.keys() == {200, 500}
    live.sidecar.wait(lambda: "inputs had failed" in str(live.server.model("sentiment")["sync"]["rollout"]), 10)
    told = str(live.server.model("sentiment")["sync"]["rollout"])
    print(told)
    # Some came between the decision and the activate: in the end all of them are counted.
    assert int(counted[1]) <= saw[500]
    assert told.startswith("fails was taken back: ")
    assert f"When it was, {saw[500]} of " in told
    assert live.look() == ("rejected", "fails")
    assert live.look() == ("rejected", "fails")
    assert live.sidecar.serving("sentiment") == "v1"


def test_a_version_that_is_slow_on_live_traffic_is_taken_back(live: Live) -> None:
    with live.brought("slow", IS_SLOW) as (status, traffic):
        assert status == "promoted"
        reason = live.is_taken_back("slow", "v1")
        live.server.wait_until_it_serves("sentiment", "v1")
    took = live.at("activated", "v1") - live.at("activated", "slow")
    longest = max(one.seconds for one in traffic.answered)
    print(f"taken back after {took:.1f} s; the slowest answer took {longest:.2f} s; {reason}")
    assert re.match(r"\d+\.\d ms for an input, v1 took \d+\.\d; 2 times that is allowed", reason)
    assert {one.status for one in traffic.answered} == {200}
    assert live.look() == ("rejected", "slow")


def test_a_canary_answers_its_share_and_then_serves(live: Live) -> None:
    live.with_settings(BUNRIWIKI_CANARY_SHARE="0.1", BUNRIWIKI_MONITOR_REQUESTS="100")
    with live.brought("good") as (status, traffic):
        assert status == "promoted"
        live.server.wait_until_it_serves("sentiment", "good")
        time.sleep(1)
        last = {one.version for one in traffic.answered[-CLIENTS:]}
    activated = live.at("activated", "good")
    tried = [one for one in traffic.answered if one.version == "good" and one.at < activated]
    during = Counter(one.version for one in traffic.between(tried[0].at, activated))
    share = during["good"] / during.total()
    print(f"the canary answered {during['good']} of {during.total()}: {share:.1%}")
    assert 0.06 <= share <= 0.16  # four standard deviations for some hundred batches
    assert {one.status for one in traffic.answered} == {200}
    assert last == {"good"}


def test_a_bad_canary_never_serves(live: Live) -> None:
    activations = len(live.sidecar.events("activated"))
    with live.brought("bad", RAISES) as (status, traffic):
        assert status == "rejected"
        time.sleep(1)
    saw = Counter(one.status for one in traffic.answered)
    [event] = [one for one in live.sidecar.events("quarantined", "sentiment") if one.version == "bad"]
    print(f"rejected: {event.reason}; clients saw {dict(saw)}")
    assert (event.reason or "").startswith("as a canary on 10% of the batches: ")
    assert len(live.sidecar.events("activated")) == activations
    assert live.sidecar.serving("sentiment") == "good"
    assert 0 < saw[500] < 0.1 * saw[200]
    assert {one.version for one in traffic.answered if one.at > event.at.timestamp() + 1} == {"good"}
    assert live.look() == ("rejected", "bad")


def test_nobody_sees_a_bad_shadow(live: Live) -> None:
    live.with_settings(BUNRIWIKI_CANARY_SHARE="0.5", BUNRIWIKI_SHADOW="on", BUNRIWIKI_MONITOR_ERROR_POINTS="100")
    with Traffic(live.server.url).running() as traffic:
        assert live.look(force=True) == ("rejected", "bad")
    [*_, event] = live.sidecar.events("quarantined", "sentiment")
    print(f"rejected: {event.reason}; clients saw {Counter(one.status for one in traffic.answered)}")
    assert re.match(r"as a shadow on 50% .* copies were answered differently than by good.* no client saw$", event.reason or "")
    assert {(one.status, one.version) for one in traffic.answered} == {(200, "good")}


@pytest.mark.skipif(not FULL, reason="takes a minute more")
@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [("dies", DIES, "workers that died"), ("stuck", IS_STUCK, "busy with")],
    ids=["it kills them", "it keeps them busy"],
)
def test_a_version_that_takes_its_workers_along_is_taken_back(live: Live, version: str, code: str, reason: str) -> None:
    live.with_settings(BUNRIWIKI_MONITOR_SECONDS="120", BUNRIWIKI_MONITOR_STUCK_SECONDS="3")
    before = live.sidecar.serving("sentiment")
    assert before
    with live.brought(version, code) as (status, traffic):
        assert status == "promoted"
        assert reason in live.is_taken_back(version, before, 120)
        if version == "stuck":  # nobody else can make them answer again
            live.sidecar.wait(lambda: f"sentiment:{version} does not come to an end with a batch" in live.server.log(), 20)
        live.server.wait_until_it_serves("sentiment", before, seconds=60)
        time.sleep(2)
        assert {one.status for one in traffic.answered[-CLIENTS:]} == {200}
    took = live.at("activated", before) - live.at("activated", version)
    print(f"taken back after {took:.1f} s; clients saw {Counter(one.status for one in traffic.answered)}")
