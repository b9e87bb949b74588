"""A rollout from its begin to its end, with an engine in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bunriwiki.model_store.generation import Generations, Target
from bunriwiki.model_store.history import Event, History
from model_sync.rollout.comparison import Figures
from model_sync.rollout.controller import Choices
from model_sync.rollout.replica_client import Answered
from tests.model_sync.rollout.conftest import OBSERVE_SECONDS, READY_SECONDS, SETTLE_SECONDS, Rig
from tests.model_sync.rollout.fakes import BASE

V1, V2, V3 = "repository:v1", "repository:v2", "repository:v3"


def rolled_out(rig: Rig, version: str) -> None:
    rig.serve(version)
    rig.settle()
    assert rig.run().phase == "done"


def test_what_serves_is_rolled_out_when_it_has_held(rig: Rig) -> None:
    rig.serve("v2")
    assert not rig.step(SETTLE_SECONDS - 1)
    assert rig.rollout() is None
    rig.settle()
    done = rig.run()
    assert (done.phase, done.new.name, done.old.name, done.number) == ("done", V2, BASE, 1)
    assert done.new.versions == {"yolo": "v2"}
    assert rig.images() == [V2, V2]
    assert rig.engine.dropped == 0
    assert not rig.step()


def test_without_a_promoted_version_nothing_happens(rig: Rig) -> None:
    rig.wish(start=1)
    assert not rig.step(SETTLE_SECONDS)
    assert rig.rollout() is None
    assert rig.state().started == 1


def test_while_nothing_is_to_be_done_the_engine_is_rarely_asked(rig: Rig) -> None:
    rolled_out(rig, "v2")
    rig.step(60)
    looked = rig.engine.looked
    for _ in range(10):
        assert not rig.step(1)
    assert rig.engine.looked == looked
    for running in rig.engine.of(V2):  # somebody recreated them with the first image
        rig.engine.retire(running.replica)
        rig.engine.add(BASE, ready=True)
    assert not rig.step(1)
    assert rig.step(5)


def test_versions_close_together_make_one_rollout(rig: Rig) -> None:
    for number in range(1, 11):
        rig.serve(f"v{number}")
        assert not rig.step(SETTLE_SECONDS / 12)
    rig.settle()
    assert rig.run().new.versions == {"yolo": "v10"}
    assert rig.engine.built == ["repository:v10"]


def test_a_version_that_is_being_prepared_is_waited_for(rig: Rig) -> None:
    rig.serve("v2")
    target = Target(version="v3", since=rig.now(), source="a test", by="poll")
    Generations.read(rig.layout.generation).prepare("yolo", target).write(rig.layout.generation)
    rig.settle()
    assert not rig.step()


def test_an_operator_need_not_wait(rig: Rig) -> None:
    rig.serve("v2")
    rig.wish(start=1)
    assert rig.run().phase == "done"
    assert rig.state().started == 1


def test_a_trial_answers_before_any_replica_is_started(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    for _ in range(5):
        rig.step(OBSERVE_SECONDS)
    [trial] = rig.engine.of(V2)
    assert trial.replica.trial
    trial.ready = True
    rig.step()
    assert trial.versions == {"yolo": "v2"}
    assert rig.run().phase == "done"
    assert rig.engine.started.count(V2) == 3


def test_a_trial_that_answers_wrongly_ends_it_before_a_client_notices(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    for _ in range(5):
        rig.step()
    [trial] = rig.engine.of(V2)
    trial.ready, trial.answered = True, Answered(wrong="a golden sample is answered wrongly")
    back = rig.run()
    assert (back.phase, back.cause, back.reason) == ("rolled_back", "answers", "a golden sample is answered wrongly")
    assert rig.images() == [BASE, BASE]
    assert rig.engine.started.count(V2) == 1
    rig.settle()
    assert not rig.step()  # it is not tried again by itself
    rig.wish(start=1)
    trial.answered = Answered()
    assert rig.run().phase == "done"


def test_a_replica_that_does_not_become_ready_ends_it(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.until(V2)
    for _ in range(2 + int(READY_SECONDS / OBSERVE_SECONDS)):
        rig.step(OBSERVE_SECONDS)
    back = rig.run(ready=False)
    assert (back.phase, back.cause) == ("rolled_back", "health")
    assert rig.images() == [BASE, BASE]
    assert rig.engine.dropped == 0


def test_a_replica_that_answers_with_another_version_for_too_long_ends_it(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    new = rig.until(V2)
    new.ready, new.answered = True, Answered(later="yolo answers with v1 instead of v2")
    assert not rig.step(READY_SECONDS / 2)
    assert rig.run().cause == "answers"


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        (Figures(answers=100, failures=10), "errors"),
        (Figures(answers=100, times={("yolo", 0.1): 0, ("yolo", 0.5): 100}), "latency"),
    ],
    ids=["errors", "latency"],
)
def test_replicas_that_are_worse_than_the_old_ones_end_it(rig: Rig, figures: Figures, cause: str) -> None:
    rig.serve("v2")
    rig.settle()
    new = rig.until(V2)
    new.ready = True
    assert not rig.step(1)
    for running in rig.engine.running.values():
        running.figures = Figures(answers=100, times={("yolo", 0.1): 100, ("yolo", 0.5): 100})
    new.figures = figures
    back = rig.run()
    assert (back.phase, back.cause) == ("rolled_back", cause)
    assert rig.images() == [BASE, BASE]
    assert rig.engine.dropped == 0


def test_metrics_that_cannot_be_read_at_first_are_compared_later(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    new = rig.until(V2)
    new.ready, new.figures = True, None
    for _ in range(3):
        assert not rig.step(OBSERVE_SECONDS)
    new.figures = Figures()
    assert not rig.step(1)
    for running in rig.engine.running.values():
        running.figures = Figures(answers=100)
    new.figures = Figures(answers=100, failures=10)
    assert rig.run().cause == "errors"


def test_metrics_that_can_never_be_read_end_it(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    new = rig.until(V2)
    new.ready, new.figures = True, None
    back = rig.run()
    assert (back.phase, back.cause) == ("rolled_back", "health")
    assert "metrics" in (back.reason or "")
    assert rig.images() == [BASE, BASE]


def test_a_rollback_turns_it_round(rig: Rig) -> None:
    rolled_out(rig, "v1")
    rig.serve("v2")
    rig.settle()
    rig.until(V2).ready = True
    rig.step(OBSERVE_SECONDS)
    rig.serve("v1", held=("v2",))
    back = rig.run()
    assert (back.phase, back.cause) == ("rolled_back", "withdrawn")
    assert rig.images() == [V1, V1]
    assert rig.engine.dropped == 0
    rig.settle()
    assert not rig.step()


def test_it_does_not_go_back_to_a_version_that_was_withdrawn(rig: Rig) -> None:
    rolled_out(rig, "v1")
    rig.serve("v2")
    rig.settle()
    rig.until(V2).ready = True
    rig.serve("v3", held=("v1", "v2"))
    assert rig.run().old.name == BASE
    assert rig.images() == [BASE, BASE]


def test_after_a_rollback_to_the_fallback_the_base_image_comes_back(rig: Rig) -> None:
    rolled_out(rig, "v1")
    rig.serve("fallback", held=("v1",))
    rig.settle()
    assert rig.run().new.name == BASE
    assert rig.images() == [BASE, BASE]


def test_replicas_that_end_by_themselves_are_replaced_and_then_end_it(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    for number in range(3):
        rig.engine.end(rig.until(V2))
        rig.step()
        current = rig.rollout()
        assert current is not None
        assert current.losses == number + 1
    back = rig.run()
    assert (back.phase, back.cause) == ("rolled_back", "losses")


def test_an_old_replica_that_ends_is_replaced(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.until(V2)
    rig.engine.end(rig.engine.of(BASE)[0])
    assert rig.run().phase == "done"
    assert rig.images() == [V2, V2]


def test_pause_and_resume(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.until(V2).ready = True
    rig.wish(paused=True)
    for _ in range(20):
        rig.step(OBSERVE_SECONDS)
    assert rig.images() == [BASE, V2]
    rig.wish(paused=False)
    assert rig.run().phase == "done"


def test_a_paused_rollout_replaces_an_old_replica_by_an_old_one(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.wish(paused=True)
    rig.step()
    rig.engine.end(rig.engine.of(BASE)[0])
    rig.step()
    rig.step()
    assert rig.images() == [BASE, BASE]


def test_cancel(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.until(V2)
    rig.wish(cancelled=1)
    back = rig.run()
    assert (back.phase, back.cause) == ("rolled_back", "cancelled")
    rig.settle()
    assert not rig.step()


def test_a_lost_state_does_not_make_old_wishes_concern_a_new_rollout(rig: Rig) -> None:
    recorded = Event(at=rig.now(), kind="rollout_command", model="all", by="operator", reason="cancel", rollout=4)
    History(rig.layout.history).append(recorded)
    rig.wish(cancelled=1)
    rig.serve("v2")
    rig.settle()
    done = rig.run()
    assert (done.phase, done.number) == ("done", 5)


def test_undo(rig: Rig) -> None:
    rolled_out(rig, "v1")
    rolled_out(rig, "v2")
    rig.wish(undone=2)
    undone = rig.run()
    assert (undone.phase, undone.new.name, undone.old.name, undone.number) == ("done", V1, V2, 3)
    assert rig.images() == [V1, V1]
    rig.settle()
    assert not rig.step()  # v2 still serves, and does not come back by itself
    rolled_out(rig, "v3")


def test_each_step_waits_for_an_approval(rig: Rig) -> None:
    rig.choices = Choices(SETTLE_SECONDS, is_manual=True)
    rig.restart()
    rig.serve("v2")
    rig.settle()
    seen: list[str] = []
    for _ in range(40):
        rig.step(OBSERVE_SECONDS)
        for running in rig.engine.running.values():
            running.ready = True
        if waiting := rig.state().waiting:
            images = rig.images()
            rig.step(OBSERVE_SECONDS)
            assert rig.images() == images
            seen.append(waiting)
            rig.wish(approved=waiting)
    assert seen == ["1/build", "1/trial", "1/1", "1/2"]
    assert rig.images() == [V2, V2]


def test_what_fails_is_reported_and_tried_again(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    rig.step()
    rig.engine.fails = "the engine does not answer"
    assert not rig.step()
    assert rig.state().problem == "the engine does not answer"
    rig.engine.fails = ""
    assert rig.run().phase == "done"
    assert rig.state().problem is None


def test_a_process_that_dies_after_any_step_is_continued(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    for _ in range(60):
        rig.step(OBSERVE_SECONDS)
        rig.step(OBSERVE_SECONDS)
        rig.step(OBSERVE_SECONDS)
        for running in rig.engine.running.values():
            running.ready = True
        rig.restart()
    current = rig.rollout()
    assert current is not None
    assert current.phase == "done"
    assert rig.images() == [V2, V2]
    assert rig.engine.dropped == 0


def test_images_that_are_not_needed_are_pruned(rig: Rig) -> None:
    for version in ("v1", "v2", "v3"):
        rolled_out(rig, version)
    assert rig.engine.images == {BASE, V2, V3}


def test_replicas_of_an_operator_are_counted_at_the_begin(rig: Rig) -> None:
    rig.engine.add(BASE, ready=True)
    rig.engine.wanted = 3
    rig.serve("v2")
    rig.settle()
    assert rig.run().wanted == 3
    assert rig.images() == [V2] * 3


def test_a_replica_without_an_address_is_not_asked(rig: Rig) -> None:
    rig.serve("v2")
    rig.settle()
    new = rig.until(V2)
    new.replica = replace(new.replica, address="")
    new.ready = True
    assert not rig.step()
