"""The sidecar is killed at random instants around the operators' commands: each took effect, or it did not.

The real sidecar, and the real service with two workers per runner, with a folder of versions of the sentiment model.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bunriwiki.model_store.generation import Generations, ModelGeneration
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.load import background_load
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN, Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import BUNDLED_VERSION, make_version, pyfunc
from model_sync.sources.local import LocalSource
from tests.integration.conftest import FULL, PAUSE_SECONDS, within

KILLS = 30 if FULL else 2  # per command
ENDLESS = {"BUNRIWIKI_CANARY_SECONDS": "3600", "BUNRIWIKI_MONITOR_REQUESTS": "1000000"}  # only an operator ends a canary
MODEL = "sentiment"


@dataclass
class Deployment:
    """A service and a sidecar, whose registry is a folder."""

    root: Path
    server: Server
    sidecar: Sidecar
    chance: random.Random
    client: httpx.Client  # made once: to make one takes longer than most commands

    def now(self) -> ModelGeneration:
        return Generations.read(self.sidecar.layout.generation).of(MODEL)

    def serving(self) -> str:
        serving = self.now().serving
        return serving.version if serving else FALLBACK

    def command(self, name: str, **body: str) -> httpx.Response:
        return self.client.post(f"{self.sidecar.url}/models/{MODEL}/{name}", json=body or None)

    def done(self, name: str, **body: str) -> None:
        answer = self.command(name, **body)
        assert answer.status_code == 200, answer.text

    def killed_around(self, name: str, seconds: float, *, may_be_late: bool = False, **body: str) -> bool:
        """Kill the sidecar up to so many seconds after a command was sent; whether the command was answered with success.

        With `may_be_late`, it may be answered with 409 as well.
        """
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(self.command, name, **body)
            time.sleep(self.chance.uniform(0, seconds))
            self.sidecar.kill()
            try:
                answer = sent.result()
            except httpx.TransportError:
                return False
        assert answer.status_code in ((200, 409) if may_be_late else (200,)), answer.text
        return answer.status_code == 200

    def start_sidecar(self) -> None:
        self.sidecar.start()
        self.sidecar.wait(lambda: self.sidecar.state(MODEL) and CLIENT.get(f"{self.sidecar.url}/livez").is_success)


def sidecar(root: Path, **environment: str) -> Sidecar:
    settings = {
        "BUNRIWIKI_SOURCES": f"{MODEL}=local:{root / 'versions'}",
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_GATE_LATENCY_RATIO": "100",  # all versions are the same model: only a busy machine could reject one
        "BUNRIWIKI_MONITOR_SECONDS": "0",
        **environment,
    }
    return Sidecar(root / "store", root / "sidecar.log", settings)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """v1 serves. v2 is on disk, and the registry offers it."""
    root = tmp_path_factory.mktemp("commands")
    (root / "versions").mkdir()
    source = LocalSource({MODEL: root / "versions"})
    offers = []
    for version in ("v1", "v2"):
        pyfunc(root / "versions" / version, note=version)
        (root / "versions" / version).touch()
        offers.append(source.newest(MODEL))
        serve_from_store(root / "store", make_version(MODEL, version, 0, root / version), offers[-1])
    serve_from_store(root / "store", root / "v1", offers[0])
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_SYNC": "off",
        "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
    }
    server = Server(root / "server.log", environment=environment)
    running = sidecar(root, BUNRIWIKI_CANARY_SHARE="0.1", **ENDLESS)
    client = httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    deployment = Deployment(root, server, running, random.Random(14), client)
    try:
        server.wait_until_ready()
        server.wait_until_serving(MODEL, "v1")
        yield deployment
    finally:
        client.close()
        deployment.sidecar.stop()
        server.stop()


def have_canary(deployment: Deployment, *, paused: bool) -> None:
    """Have v1 serve, and v2 be a canary."""
    running = deployment.sidecar
    if running.process is None or running.process.poll() is not None:
        deployment.start_sidecar()
    if deployment.serving() == "v2":
        deployment.done("rollback", version="v1")
    if not deployment.now().canary:
        deployment.done("unpin")
    running.wait(lambda: deployment.now().canary)
    if deployment.now().paused and not paused:
        deployment.done("resume")
    if paused:
        deployment.done("pause")


Effect = Callable[[ModelGeneration], bool]


def serves_v2(now: ModelGeneration) -> bool:
    return now.serving is not None and now.serving.version == "v2"


@pytest.mark.parametrize(
    ("command", "paused", "seconds", "took_effect"),
    [
        ("pause", False, 0.04, lambda now: now.paused == "v2"),
        ("resume", True, 0.04, lambda now: now.paused is None),
        ("promote", True, 0.8, serves_v2),
        ("abort", True, 0.04, lambda now: now.held == ("v2",) and not now.paused and not now.preparing),
    ],
)
def test_a_command_about_a_canary_takes_effect_or_does_not(
    deployment: Deployment, command: str, paused: bool, seconds: float, took_effect: Effect
) -> None:
    seen: Counter[str] = Counter()
    with background_load(deployment.server.url, clients=2, pause=PAUSE_SECONDS) as outcome:
        for _ in range(KILLS):
            have_canary(deployment, paused=paused)
            assert not took_effect(deployment.now())
            answered = deployment.killed_around(command, seconds)
            effective = took_effect(deployment.now())
            seen[f"{'answered' if answered else 'not answered'}, {'effective' if effective else 'not effective'}"] += 1
            assert effective or not answered
            deployment.start_sidecar()
            if command == "promote" and effective:
                deployment.sidecar.wait_for_status(MODEL, "unchanged", "v2")
                assert deployment.now().paused is None
            elif command == "abort" and effective:
                deployment.sidecar.wait_for_status(MODEL, "held", "v2")
                assert deployment.now().canary is None
            else:  # the canary begins again, and what was decided about it still holds
                deployment.sidecar.wait(lambda: deployment.now().canary)
                assert (deployment.now().paused == "v2") == ((command == "pause") == effective)
            assert took_effect(deployment.now()) == effective
            assert deployment.serving() == ("v2" if command == "promote" and effective else "v1")
    print(f"{command}: {dict(seen)}")
    assert set(outcome.counts) == {"200"}


def test_a_paused_canary_outlasts_the_sidecar_and_an_operator_ends_it(deployment: Deployment) -> None:
    have_canary(deployment, paused=True)
    deployment.sidecar.wait(lambda: ", paused: " in (deployment.server.model(MODEL)["sync"]["rollout"] or ""))
    state = deployment.server.model(MODEL)
    assert (state["preparing"]["version"], state["canary"]["share"], state["paused"]) == ("v2", 0.1, "v2")
    deployment.sidecar.stop()
    deployment.start_sidecar()
    deployment.sidecar.wait(lambda: deployment.now().canary)
    answer = deployment.command("promote")
    assert (answer.status_code, answer.json()["version"], answer.json()["workers"]) == (200, "v2", 2)
    deployment.server.wait_until_serving(MODEL, "v2")
    kinds = [event.kind for event in deployment.sidecar.events("promoted", MODEL)]
    assert deployment.sidecar.events("promoted", MODEL)[-1].by == "operator", kinds


def test_a_rollback_to_the_fallback_takes_effect_or_does_not(deployment: Deployment) -> None:
    """From v2, which serves."""
    deployment.sidecar.stop()
    deployment.sidecar = sidecar(deployment.root)
    deployment.start_sidecar()
    deployment.sidecar.wait_for_status(MODEL, "unchanged", "v2")
    deployment.done("rollback", version=FALLBACK)
    deployment.server.wait_until_serving(MODEL, BUNDLED_VERSION)
    seen: Counter[bool] = Counter()
    with background_load(deployment.server.url, clients=2, pause=PAUSE_SECONDS) as outcome:
        for _ in range(KILLS):
            if deployment.serving() != "v2":
                deployment.done("rollback", version="v2")
            assert (deployment.serving(), deployment.now().held) == ("v2", ())
            answered = deployment.killed_around("rollback", 0.6, version=FALLBACK)
            effective = deployment.serving() == FALLBACK
            assert effective or not answered
            seen[effective] += 1
            deployment.start_sidecar()
            status = "held" if effective else "unchanged"
            deployment.sidecar.wait_for_status(MODEL, status, "v2")
            assert deployment.now().held == (("v2",) if effective else ())
            deployment.server.wait_until_serving(MODEL, BUNDLED_VERSION if effective else "v2")
    print(f"rollback: effective {seen[True]} times, not effective {seen[False]} times")
    assert set(outcome.counts) == {"200"}


def test_a_cancelled_import_stays_cancelled(deployment: Deployment) -> None:
    deployment.sidecar.stop()
    seen: Counter[str] = Counter()
    for number in range(KILLS):
        version = f"c{number}"
        pyfunc(deployment.root / "versions" / version, note=version).touch()
        deployment.start_sidecar()
        phase = deployment.sidecar.wait(
            lambda: state.phase if (state := deployment.sidecar.state(MODEL)) and state.phase not in (None, "fetch") else None
        )
        time.sleep(deployment.chance.uniform(0, 2))
        answered = deployment.killed_around("cancel", 0.3, may_be_late=True)
        cancelled = deployment.now().cancelled
        effective = cancelled is not None and cancelled.version == version
        seen[f"{phase}: {'effective' if effective else 'not effective'}"] += 1
        assert effective or not answered
        deployment.start_sidecar()
        deployment.sidecar.wait_for_status(MODEL, "cancelled" if effective else "promoted", version)
        assert (deployment.serving() == version) is not effective
        if effective:  # until an operator asks for it
            assert deployment.sidecar.sync(MODEL)["outcomes"][MODEL]["status"] == "promoted"
        assert deployment.now().cancelled is None
        deployment.sidecar.kill()
    print(dict(seen))
    assert deployment.sidecar.events("quarantined") == []


def test_a_cancelled_import_ends_within_seconds(deployment: Deployment) -> None:
    pyfunc(deployment.root / "versions" / "last", note="last").touch()
    before = deployment.serving()
    deployment.start_sidecar()
    deployment.sidecar.wait(lambda: (state := deployment.sidecar.state(MODEL)) and state.phase in ("compile", "evaluate"))
    began = time.monotonic()
    answer = deployment.command("cancel")
    took = time.monotonic() - began
    assert (answer.status_code, answer.json()) == (200, {"model": MODEL, "version": "last"})
    deployment.sidecar.wait_for_status(MODEL, "cancelled", "last", within(5))
    print(f"the import ended {took:.1f} s after the command")
    assert list(deployment.sidecar.layout.staging.glob("import-*")) == []
    assert (deployment.serving(), deployment.sidecar.events("cancelled")[-1].by) == (before, "operator")
    deployment.sidecar.wait(
        lambda: (found := deployment.server.model(MODEL)["cancelled"]) and found["version"] == "last", within(10)
    )
    assert deployment.command("cancel").status_code == 409
