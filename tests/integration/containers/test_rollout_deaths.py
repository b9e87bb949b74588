"""What a rollout runs on ends at any moment: its process, a replica, the engine. It is completed each time.

The replicas are the stand-in that starts in a second, with Compose and a real engine.
"""

from __future__ import annotations

import random
import time
from functools import partial

import httpx
import pytest

from bunriwiki.testing.containers.rig import ROLLOUT_SECONDS, Rig
from bunriwiki.testing.containers.texts import failures, texts
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import REPLICAS

CLIENTS = 4
ROUNDS, KILLS = (5, 4) if FULL else (1, 2)  # rollouts, and deaths of the process in each
UNDISTURBED_SECONDS = 45.0  # of a rollout
# Before which a replica is killed: the action, which one of its kind, the seconds after it, and which replica.
STEPS = {
    "building": ("Build", 1, 0.0, ("old",)),
    "trying": ("StartTrial", 1, 1.0, ("old", "trial")),
    "tried": ("PassTrial", 1, 0.0, ("old",)),
    "starting the first": ("Start(", 1, 0.5, ("old", "new")),
    "observing the first": ("Start(", 1, 5.0, ("old", "new")),
    "retiring the first": ("Retire", 2, 1.0, ("old", "new")),
    "observing the second": ("Start(", 2, 5.0, ("old", "new")),
    "retiring the second": ("Retire", 3, 1.0, ("old", "new")),
}
IN_SHORT = ("observing the first", "new")


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_killed_process_is_continued(rig: Rig, _: int) -> None:
    number = rig.next_number()
    with texts(rig.url, CLIENTS) as found:
        began = time.monotonic()
        rig.versions.publish()
        for instant in sorted(random.uniform(0, UNDISTURBED_SECONDS) for _ in range(KILLS)):
            time.sleep(max(0.0, began + instant - time.monotonic()))
            state = rig.state()
            print(f"killed after {instant:.1f} s: {state.current and state.current.phase}, {state.replaced} replaced")
            rig.process.kill()
            rig.process.start()
        done = rig.wait(number)
    assert done.phase == "done", done.reason
    assert failures(found) == {}
    assert len(rig.replicas()) == REPLICAS
    assert rig.trials() == []


@pytest.mark.parametrize(
    ("step", "which"),
    [
        pytest.param(step, which, id=f"{step}, {which}", marks=() if (step, which) == IN_SHORT else pytest.mark.full_form)
        for step, (*_, choices) in STEPS.items()
        for which in choices
    ],
)
def test_a_killed_replica_costs_what_was_in_flight_on_it(rig: Rig, step: str, which: str) -> None:
    number, before = rig.next_number(), rig.replicas()
    action, times, seconds, _ = STEPS[step]

    def victims() -> set[str]:
        return {"old": rig.replicas() & before, "new": rig.replicas() - before, "trial": set(rig.trials())}[which]

    with texts(rig.url, CLIENTS) as found:
        rig.versions.publish()
        rig.wait_for_action(number, action, times)
        time.sleep(seconds)
        rig.composed.engine.docker("kill", min(wait_until(victims)))
        done = rig.wait(number)
    assert done.phase == "done", done.reason
    assert sum(failures(found).values()) <= CLIENTS
    assert len(rig.replicas()) == REPLICAS
    assert len(set(rig.images())) == 1
    assert rig.trials() == []


def test_a_restart_of_the_engine_is_outlived(rig: Rig) -> None:
    """All containers end with the engine, the edge too. When it is back, no request fails any more."""
    number = rig.next_number()
    with texts(rig.url, CLIENTS) as found:
        rig.versions.publish()
        wait_until(partial(rig.is_rolling, number), ROLLOUT_SECONDS, interval=0.2)
        began = time.monotonic()
        rig.composed.engine.restart()
        wait_until(lambda: serves_steadily(rig), 120, rig.composed.logs)
        print(f"the engine restarted, and the replicas answered again after {time.monotonic() - began:.1f} s")
        lost = failures(found)
        done = rig.wait(number)
    assert done.phase == "done", done.reason
    assert failures(found) == lost
    assert len(rig.replicas()) == REPLICAS
    assert len(set(rig.images())) == 1
    assert rig.trials() == []


def serves_steadily(rig: Rig) -> bool:
    """Whether two seconds pass in which the edge has ready replicas."""
    for _ in range(10):
        try:
            if httpx.get(f"{rig.url}/readyz", timeout=2, trust_env=False).status_code != httpx.codes.OK:
                return False
        except httpx.TransportError:
            return False
        time.sleep(0.2)
    return True
