"""Rollouts with a real engine, Compose, Envoy and the allow-list, of a stand-in for the service that starts in a second.

`test_rollout.py` has the real service. The writer of the store is the test; the rollout's process runs on this machine.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.containers.base_image import make_base_image
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.replica import GOOD, Behaviour, build_replica
from bunriwiki.testing.containers.rollout import (
    RolloutProcess,
    Versions,
    build_bad_image,
    rollout_process,
    seconds_to_go_back,
)
from bunriwiki.testing.containers.texts import HEADERS, TEXT, failures, texts
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.state import Cause, Rollout, State
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import Start, only_full

ROLLOUT_SECONDS = 180.0
REPLICAS = 2
KILLS = 20 if FULL else 3
REPETITIONS = 20 if FULL else 1
SETTINGS = {
    "BUNRIWIKI_ROLLOUT_READY_SECONDS": "30",
    "BUNRIWIKI_ROLLOUT_OBSERVE_SECONDS": "8",
    "BUNRIWIKI_MONITOR_REQUESTS": "10",  # the edge sends few to a slow replica
    "BUNRIWIKI_MONITOR_LATENCY_RATIO": "10",  # of milliseconds, on a machine that other tests use; `slow` takes 300 of them
}


@pytest.fixture(scope="module")
def composed(engine: Engine, compose: Start) -> Composed:
    make_base_image(engine)
    build_replica(engine)
    project = compose("EDGE_IMAGE", environment={"BUNRIWIKI_IMAGE": GOOD})
    project.up("--no-recreate", "--scale", f"service={REPLICAS}")
    return project


@pytest.fixture(scope="module")
def rollouts(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutProcess]:
    folder = tmp_path_factory.mktemp("rollout")
    with rollout_process(composed, folder, BUNRIWIKI_ROLLOUT_BASE=GOOD, **SETTINGS) as process:
        process.start()
        yield process
        print(process.log.read_text(errors="replace")[-6000:])


@pytest.fixture(scope="module")
def versions(rollouts: RolloutProcess, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(rollouts.layout, tmp_path_factory.mktemp("versions"))


def next_number(rollouts: RolloutProcess) -> int:
    current = State.read(rollouts.layout.rollout_state).current
    return current.number + 1 if current else 1


def images_of(composed: Composed) -> list[str]:
    return sorted(str(composed.inspect(container)["Image"]) for container in composed.containers("service"))


def trials(composed: Composed) -> str:
    return composed.engine.docker(
        "ps", "--all", "--quiet", f"--filter=label=bunriwiki.rollout.trial={composed.project}"
    ).strip()


def test_ten_versions_make_one_rollout(composed: Composed, rollouts: RolloutProcess, versions: Versions) -> None:
    number, before = next_number(rollouts), set(composed.containers("service"))
    folders = [versions.make() for _ in range(10)]
    with texts(composed.url) as found:
        for folder in folders:
            last = versions.publish(folder)
        done = rollouts.wait(number, ROLLOUT_SECONDS)
    assert (done.phase, done.new.versions) == ("done", {"sentiment": last}), done.reason
    assert failures(found) == {}
    after = composed.containers("service")
    assert len(after) == REPLICAS
    assert not before & set(after)
    assert len(set(images_of(composed))) == 1
    assert trials(composed) == ""


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        pytest.param("ends", "losses", id="ends", marks=only_full),
        pytest.param("unready", "health", id="unready", marks=only_full),
        pytest.param("wrong", "answers", id="wrong"),
    ],
)
@pytest.mark.parametrize("_", range(REPETITIONS))
def test_a_bad_image_is_left(
    composed: Composed, rollouts: RolloutProcess, versions: Versions, behaviour: Behaviour, cause: Cause, _: int
) -> None:
    before = images_of(composed)
    back, found = roll_out_bad_image(composed, rollouts, versions, behaviour)
    assert (back.phase, back.cause) == ("rolled_back", cause), back.reason
    assert failures(found) == {}
    assert images_of(composed) == before
    assert trials(composed) == ""


def test_a_slow_image_is_left(composed: Composed, rollouts: RolloutProcess, versions: Versions) -> None:
    before, seconds = images_of(composed), []
    for _ in range(REPETITIONS):
        back, found = roll_out_bad_image(composed, rollouts, versions, "slow")
        assert (back.phase, back.cause) == ("rolled_back", "latency"), back.reason
        assert failures(found) == {}
        assert images_of(composed) == before
        seconds.append(seconds_to_go_back(back))
    print(f"from detection to all old: median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s")


def roll_out_bad_image(
    composed: Composed, rollouts: RolloutProcess, versions: Versions, behaviour: Behaviour
) -> tuple[Rollout, Counter[str]]:
    """Have the next image be a bad one, with a good version."""
    number, version = next_number(rollouts), versions.prepare()
    bad = build_replica(composed.engine, behaviour, f"{GOOD}-{behaviour}")
    build_bad_image(composed.engine, rollouts.environment, version, bad)
    with texts(composed.url) as found:
        versions.promote(version)
        back = rollouts.wait(number, ROLLOUT_SECONDS)
    return back, found


def test_a_rollback_turns_it_round(composed: Composed, rollouts: RolloutProcess, versions: Versions) -> None:
    number, before = next_number(rollouts), images_of(composed)
    [earlier] = {answer.partition("/")[2] for answer in answers(composed)}
    serving = Generations.read(rollouts.layout.generation).of("sentiment").serving
    with texts(composed.url) as found:
        version = versions.publish()
        wait_until(partial(is_rolling, rollouts, number), ROLLOUT_SECONDS, interval=0.2)
        versions.roll_back(version, serving.version if serving else FALLBACK)
        back = rollouts.wait(number, ROLLOUT_SECONDS)
        wait_until(lambda: set(answers(composed)) == {f"200/{earlier}"}, 10)
        found_at_the_end = found[f"200/{version}"]
        time.sleep(2)
    assert (back.phase, back.cause) == ("rolled_back", "withdrawn")
    assert failures(found) == {}
    assert found[f"200/{version}"] == found_at_the_end  # no client sees it any more
    assert images_of(composed) == before


def answers(composed: Composed) -> list[str]:
    """What twenty texts over new connections are answered with."""
    found = []
    for _ in range(20):
        answer = httpx.post(f"{composed.url}/predict", content=TEXT, headers=HEADERS, timeout=30, trust_env=False)
        found.append(f"{answer.status_code}/{answer.headers['X-Model-Version']}")
    return found


def is_rolling(rollouts: RolloutProcess, number: int) -> bool:
    state = State.read(rollouts.layout.rollout_state)
    return state.current is not None and (state.current.number, state.current.phase, state.replaced) == (number, "rolling", 1)


def test_a_killed_process_is_continued(composed: Composed, rollouts: RolloutProcess, versions: Versions) -> None:
    number = next_number(rollouts)
    with texts(composed.url) as found:
        versions.publish()
        for kill in range(KILLS):
            time.sleep(1 + 37 * kill % 11 / 3)
            rollouts.kill()
            rollouts.start()
        done = rollouts.wait(number, ROLLOUT_SECONDS)
    assert done.phase == "done", done.reason
    assert failures(found) == {}
    assert len(composed.containers("service")) == REPLICAS
    assert trials(composed) == ""


@only_full
@pytest.mark.parametrize("which", ["old", "new"])
def test_a_killed_replica_costs_what_was_in_flight_on_it(
    composed: Composed, rollouts: RolloutProcess, versions: Versions, which: str
) -> None:
    number, before = next_number(rollouts), set(composed.containers("service"))
    with texts(composed.url) as found:
        versions.publish()
        wait_until(partial(is_rolling, rollouts, number), ROLLOUT_SECONDS, interval=0.2)
        now = set(composed.containers("service"))
        composed.engine.docker("kill", min(now & before if which == "old" else now - before))
        done = rollouts.wait(number, ROLLOUT_SECONDS)
    assert done.phase == "done", done.reason
    assert sum(failures(found).values()) <= 4
    assert len(composed.containers("service")) == REPLICAS
