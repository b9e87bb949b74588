"""The first version of a registry turns out bad: the fallback serves again, by itself and by hand, and stays.

The real sidecar, and the real service with two workers per runner, with a folder of versions of the sentiment model. Service
and sidecar bundle different fallback versions, as two releases may.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.generation import Generations, ModelGeneration
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.load import background_load
from bunriwiki.testing.paths import MODELS, ROOT
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN
from bunriwiki.testing.versions import make_version
from model_sync.cli.exits import Exit
from tests.integration.conftest import PAUSE_SECONDS, within
from tests.integration.test_rollout import RAISES, Live, sidecar

BUNDLED = "fallback-9"  # the version of sentiment that the service bundles
MAX_SECONDS = within(5)  # from the command to the last worker


def service(root: Path) -> Server:
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_MODELS": str(root / "bundled"),
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_SOURCES": f"sentiment=local:{root / 'versions'}",
        "BUNRIWIKI_LOG_REQUESTS": "false",
    }
    server = Server(root / f"server-{time.monotonic_ns()}.log", environment=environment)
    server.wait_until_ready()
    return server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, reference: dict[str, str]) -> Iterator[Live]:
    """A service whose registry has no version yet."""
    root = tmp_path_factory.mktemp("first")
    (root / "versions").mkdir()
    for model in ("yolo", "kcbert"):
        shutil.copytree(MODELS / model, root / "bundled" / model)
    make_version("sentiment", BUNDLED, 0, root / "bundled" / "sentiment")
    live = Live(root, service(root), sidecar(root, **reference).start(), reference)
    try:
        live.sidecar.wait_for_status("sentiment", "unchanged")
        live.server.wait_until_serving("sentiment", BUNDLED)
        yield live
    finally:
        live.sidecar.stop()
        live.server.stop()


def generation(live: Live) -> ModelGeneration:
    return Generations.read(live.sidecar.layout.generation).of("sentiment")


def restart(live: Live) -> None:
    """Service and sidecar, as after a power cut."""
    live.server.stop()
    live.sidecar.stop()
    live.sidecar.start()
    live.server = service(live.root)
    live.server.wait_until_serving("sentiment", BUNDLED)


def command(live: Live, *line: str) -> tuple[int, dict[str, Any]]:
    """Run a command as an operator does; its exit code and its output."""
    environment = {
        **os.environ,
        "BUNRIWIKI_MODEL_STORE": str(live.root / "store"),
        "BUNRIWIKI_SYNC_PORT": str(live.sidecar.port),
        "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
    }
    done = subprocess.run(
        [sys.executable, "-m", "model_sync", *line, "--json"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_a_bad_first_version_is_taken_back_by_itself(live: Live) -> None:
    with live.synced("bad", RAISES) as (status, traffic):
        assert status == "promoted"
        reason = live.wait_for_rollback("bad", FALLBACK)
        live.server.wait_until_serving("sentiment", BUNDLED)
        answered = len(traffic.answers)
        live.sidecar.wait(lambda: len(traffic.answers) > answered + 50)
        last = {(answer.status, answer.version) for answer in traffic.answers[-20:]}
    took = live.at("activated", FALLBACK) - live.at("activated", "bad")
    print(f"back at the fallback after {took:.1f} s; clients saw {Counter(a.status for a in traffic.answers)}; {reason}")
    assert last == {(200, BUNDLED)}
    now = generation(live)
    assert now.serving
    assert (now.generation, now.serving.version, now.serving.by, now.previous) == (2, FALLBACK, "monitor", None)
    state = live.server.model("sentiment")
    assert (state["serving"]["version"], state["serving"]["by"], state["fallback"]) == (BUNDLED, "monitor", BUNDLED)
    assert state["reasons"] == ["fallback: the rollout monitor went back to the bundled fallback model"]
    assert live.server.metric("model_version_info", model="sentiment", version=BUNDLED) == 1


def test_after_a_restart_it_stays_there(live: Live) -> None:
    restart(live)
    live.sidecar.wait_for_status("sentiment", "rejected", "bad")
    assert live.sync() == ("rejected", "bad")
    assert (live.sidecar.serving("sentiment"), generation(live).generation) == (FALLBACK, 2)
    live.server.wait_until_serving("sentiment", BUNDLED)


def test_a_version_after_it_can_be_left_by_hand_with_everything_down(live: Live) -> None:
    live.publish("good")
    assert live.sync() == ("promoted", "good")
    live.server.wait_until_serving("sentiment", "good")
    live.sidecar.stop()
    (live.root / "versions" / "gone").symlink_to(live.root / "nowhere")  # the registry cannot be read, either
    with background_load(live.server.url, clients=2, pause=PAUSE_SECONDS) as outcome:
        began = time.monotonic()
        code, done = command(live, "rollback", "sentiment")
        live.server.wait_until_serving("sentiment", BUNDLED)
        took = time.monotonic() - began
    print(f"from the command to the last of two workers: {took:.1f} s, {done['seconds']} s of them for the promotion")
    assert (code, done["from"], done["to"], done["workers"]) == (Exit.DONE, "good", FALLBACK, 2)
    assert took < MAX_SECONDS
    assert set(outcome.counts) == {"200"}
    now = generation(live)
    assert (now.generation, now.previous, now.held) == (4, None, ("good",))
    code, done = command(live, "rollback", "sentiment")
    assert (code, "there is nothing to go back to" in done["error"]["message"]) == (Exit.REJECTED, True)


def test_after_a_restart_the_version_that_was_left_stays_away(live: Live) -> None:
    restart(live)
    live.sidecar.wait_for_status("sentiment", "unreachable")
    (live.root / "versions" / "gone").unlink()
    assert [live.sync() for _ in range(3)] == [("held", "good")] * 3
    live.server.wait_until_serving("sentiment", BUNDLED)
    reasons = live.server.model("sentiment")["reasons"]
    assert reasons == ["fallback: an operator went back to the bundled fallback model"]
    code, status = command(live, "status")
    assert (code, status["models"][2]["serving"]["version"], status["models"][2]["held"]) == (Exit.DONE, FALLBACK, ["good"])


def test_the_next_version_serves(live: Live) -> None:
    live.publish("better")
    assert live.sync() == ("promoted", "better")
    live.server.wait_until_serving("sentiment", "better")
    now = generation(live)
    assert now.previous
    assert (now.generation, now.previous.version, now.held) == (5, FALLBACK, ())
    assert live.server.model("sentiment")["previous"]["version"] == BUNDLED
