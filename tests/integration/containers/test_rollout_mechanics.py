"""Rollouts with a real engine, Compose, Envoy and the allow-list, of a stand-in for the service that starts in a second.

`test_rollout.py` has the real service. The writer of the store is the test; the rollout's process runs on this machine.
"""

from __future__ import annotations

import time
from functools import partial

import httpx
import pytest

from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.containers.replica import GOOD, Behaviour
from bunriwiki.testing.containers.rig import ROLLOUT_SECONDS, Rig
from bunriwiki.testing.containers.rollout import seconds_to_go_back
from bunriwiki.testing.containers.texts import HEADERS, TEXT, failures, texts
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.builder import BENTO, KEPT
from model_sync.rollout.state import Cause
from model_sync.rollout_process import REPOSITORY
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import REPLICAS

ROUNDS = 5 if FULL else 1  # of each of the four bad images


def test_ten_versions_make_one_rollout(rig: Rig) -> None:
    number, before = rig.next_number(), rig.replicas()
    folders = [rig.versions.make() for _ in range(10)]
    with texts(rig.url) as found:
        for folder in folders:
            last = rig.versions.publish(folder)
        done = rig.wait(number)
    assert (done.phase, done.new.versions) == ("done", {"sentiment": last}), done.reason
    assert failures(found) == {}
    after = rig.replicas()
    assert len(after) == REPLICAS
    assert not before & after
    assert len(set(rig.images())) == 1
    assert rig.trials() == []


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        pytest.param("ends", "losses", id="ends", marks=pytest.mark.full_form),
        pytest.param("unready", "health", id="unready", marks=pytest.mark.full_form),
        pytest.param("wrong", "answers", id="wrong"),
        pytest.param("slow", "latency", id="slow"),
    ],
)
@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_bad_image_is_left(rig: Rig, seconds_back: list[float], behaviour: Behaviour, cause: Cause, _: int) -> None:
    before = rig.images()
    back, found = rig.roll_out_bad_image(behaviour)
    assert (back.phase, back.cause) == ("rolled_back", cause), back.reason
    assert failures(found) == {}
    assert rig.images() == before
    assert rig.trials() == []
    seconds_back.append(seconds_to_go_back(back))


@pytest.mark.full_form
def test_an_image_that_fails_now_and_then_is_left(rig: Rig) -> None:
    """It answers golden samples, and a quarter of the clients' texts with 500, so it costs clients some requests."""
    before = rig.images()
    back, found = rig.roll_out_bad_image("fails")
    assert (back.phase, back.cause) == ("rolled_back", "errors"), back.reason
    assert rig.images() == before
    assert {name.partition("/")[0] for name in failures(found)} == {"500"}


def test_a_rollback_turns_it_round(rig: Rig) -> None:
    number, before = rig.next_number(), rig.images()
    [earlier] = {answer.partition("/")[2] for answer in answers(rig)}
    serving = Generations.read(rig.process.layout.generation).of("sentiment").serving
    with texts(rig.url) as found:
        version = rig.versions.publish()
        wait_until(partial(rig.is_rolling, number), ROLLOUT_SECONDS, interval=0.2)
        rig.versions.roll_back(version, serving.version if serving else FALLBACK)
        back = rig.wait(number)
        wait_until(lambda: set(answers(rig)) == {f"200/{earlier}"})
        found_at_the_end = found[f"200/{version}"]
        time.sleep(2)
    assert (back.phase, back.cause) == ("rolled_back", "withdrawn")
    assert failures(found) == {}
    assert found[f"200/{version}"] == found_at_the_end  # no client sees it any more
    assert rig.images() == before


def answers(rig: Rig) -> list[str]:
    """What twenty texts over new connections are answered with."""
    found = []
    for _ in range(20):
        answer = httpx.post(f"{rig.url}/predict", content=TEXT, headers=HEADERS, timeout=30, trust_env=False)
        found.append(f"{answer.status_code}/{answer.headers['X-Model-Version']}")
    return found


@pytest.mark.full_form
def test_old_images_are_pruned(rig: Rig) -> None:
    """Of those of the rollouts before: the newest stay, what runs, and what one would go back to."""
    assert rig.next_number() > 2 * KEPT
    current = rig.state().current
    assert current is not None
    names = rig.composed.engine.docker("images", "--format={{.Repository}}:{{.Tag}}", REPOSITORY).split()
    assert {current.new.name, current.old.name} <= {*names, GOOD}
    assert len(names) <= KEPT + 2
    bentos = rig.process.layout.rollout / "bentoml" / "bentos" / BENTO
    assert {folder.name for folder in bentos.glob("*/")} <= {name.rpartition(":")[2] for name in names}
