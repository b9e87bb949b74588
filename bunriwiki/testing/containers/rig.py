"""A project whose replicas are the stand-in that starts in a second, with the rollout's process beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.replica import GOOD, Behaviour, build_replica
from bunriwiki.testing.containers.rollout import RolloutProcess, Versions, build_bad_image, rollout_process
from bunriwiki.testing.containers.texts import texts
from bunriwiki.testing.waiting import wait_until
from model_sync.rollout.state import Rollout, State
from model_sync.rollout.target import TRIAL_LABEL

ROLLOUT_SECONDS = 240.0
SETTINGS = {
    "BUNRIWIKI_ROLLOUT_READY_SECONDS": "30",
    "BUNRIWIKI_ROLLOUT_OBSERVE_SECONDS": "8",
    "BUNRIWIKI_MONITOR_REQUESTS": "10",  # the edge sends few to a slow replica
    "BUNRIWIKI_MONITOR_LATENCY_RATIO": "10",  # of milliseconds, on a machine that other tests use; `slow` takes 300 of them
}


@dataclass
class Rig:
    """All of it."""

    composed: Composed
    process: RolloutProcess
    versions: Versions

    @property
    def url(self) -> str:
        return self.composed.url

    def state(self) -> State:
        return State.read(self.process.layout.rollout_state)

    def next_number(self) -> int:
        """The number that the next rollout will have."""
        current = self.state().current
        return current.number + 1 if current else 1

    def is_rolling(self, number: int) -> bool:
        """Whether one replica has the new image of the rollout `number`."""
        state = self.state()
        return state.current is not None and (state.current.number, state.current.phase, state.replaced) == (
            number,
            "rolling",
            1,
        )

    def wait(self, number: int) -> Rollout:
        """The rollout `number`, when it is over."""
        return self.process.wait(number, ROLLOUT_SECONDS)

    def wait_for_action(self, number: int, action: str, times: int) -> None:
        """Until the rollout `number` takes an action whose name begins so, for the time that `times` says."""

        def taken() -> bool:
            lines = self.process.log.read_text(errors="replace").splitlines()
            return sum(f"rollout {number} of " in line and f": {action}" in line for line in lines) >= times

        wait_until(taken, ROLLOUT_SECONDS, interval=0.1)

    def replicas(self) -> set[str]:
        """The containers that get requests of clients."""
        return set(self.composed.containers("service"))

    def images(self) -> list[str]:
        """The image of each replica."""
        return sorted(str(self.composed.inspect(container)["Image"]) for container in self.replicas())

    def trials(self) -> list[str]:
        """The containers of trials, also those that ended."""
        label = f"{TRIAL_LABEL}={self.composed.project}"
        return self.composed.engine.docker("ps", "--all", "--quiet", f"--filter=label={label}").split()

    def roll_out_bad_image(self, behaviour: Behaviour) -> tuple[Rollout, Counter[str]]:
        """Have the next image be a bad one, with a good version; how the rollout ended, and what came of texts meanwhile."""
        number, version = self.next_number(), self.versions.prepare()
        bad = build_replica(self.composed.engine, behaviour, f"{GOOD}-{behaviour}")
        build_bad_image(self.composed.engine, self.process.environment, version, bad)
        with texts(self.url) as found:
            self.versions.promote(version)
            back = self.wait(number)
        return back, found


@contextmanager
def rollout_rig(composed: Composed, folder: Path) -> Iterator[Rig]:
    """The rig of a project whose replicas run, with its files in `folder`."""
    (folder / "versions").mkdir()
    with rollout_process(composed, folder, BUNRIWIKI_ROLLOUT_BASE=GOOD, **SETTINGS) as process:
        process.start()
        yield Rig(composed, process, Versions(process.layout, folder / "versions"))
