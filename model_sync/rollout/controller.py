"""One step of a rollout: looks at the replicas, asks the policy, acts, and remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from loguru import logger

from bunriwiki.model_store.generation import GenerationError, Generations
from bunriwiki.model_store.history import History
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.contents import Serving, withdrawn
from model_sync.rollout.health import HealthMonitor
from model_sync.rollout.policy import (
    Action,
    Build,
    Finish,
    GoBack,
    PassTrial,
    Retire,
    Start,
    StartTrial,
    View,
    next_action,
)
from model_sync.rollout.state import Image, Rollout, State
from model_sync.rollout.target import Images, Replica, Target, TargetError
from model_sync.rollout.wishes import Wishes, WishesError

UNBUILT = "unbuilt"  # the identity of an image that the engine does not have
REST = timedelta(seconds=15)  # between two looks at the engine while nothing is to be done


@dataclass(frozen=True, slots=True)
class Choices:
    """`settle_seconds`: for which the serving versions must not have changed before a rollout begins: the time of the rollout
    monitor, or the quiet period. `is_manual`: an operator approves each step."""

    settle_seconds: float
    is_manual: bool = False


class Controller:
    """Rolls out what serves according to the store at `layout`, with at most one action in each `step`.

    `name` returns the image for the versions that serve, which need not exist yet; without versions, the service's own image,
    the last one to go back to. All that must outlast the process is in the state file or in the engine.
    """

    def __init__(
        self,
        layout: Layout,
        target: Target,
        images: Images,
        health: HealthMonitor,
        choices: Choices,
        *,
        name: Callable[[Mapping[str, str]], Image],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._layout = layout
        self._target = target
        self._images = images
        self._health = health
        self._choices = choices
        self._name = name
        self._now = now
        self._state = State.read(layout.rollout_state)
        self._rested_on: Serving | None = None  # what served when nothing was to be done
        self._rests_until = now()

    def step(self) -> bool:
        """Take one step; whether something was done, so that the next step may follow at once. Failures become the
        `problem`."""
        before = self._state
        try:
            done = self._step()
            self._state = self._state.model_copy(update={"problem": None})
        except (TargetError, GenerationError, WishesError, OSError) as error:
            done = False
            if str(error) != self._state.problem:
                logger.warning("the rollout cannot take its next step: {}", error)
            self._state = self._state.model_copy(update={"problem": str(error)})
        if self._state != before:
            self._save()
        return done

    def give_sign_of_life(self, at: float) -> None:
        """Write the time, in seconds since the epoch. Raises OSError."""
        self._state = self._state.model_copy(update={"at": at})
        self._save()

    def _step(self) -> bool:
        wishes = Wishes.read(self._layout.rollout_wishes)
        generations = Generations.read(self._layout.generation)
        current = self._state.current
        if current is None or current.is_over:
            return self._begin(current, wishes, generations)
        return self._continue(current, wishes, generations)

    def _begin(self, last: Rollout | None, wishes: Wishes, generations: Generations) -> bool:
        if last and last.phase == "done" and wishes.undone == last.number:
            self._undo(last, len(self._running()))
            return True
        requested = wishes.start > self._state.started
        serving = Serving.of(generations)
        if not requested and (self._rests(serving) or not self._is_settled(serving, generations)):
            return False
        if (not serving.versions and last is None) or withdrawn(serving.versions, generations, self._layout):
            return self._followed(wishes)
        new = self._name(serving.versions)
        if new.name in self._state.rejected and not requested:
            return self._rest(serving)
        replicas = self._running()
        identity = self._target.identity(new.name)
        others = Counter(replica.image for replica in replicas if replica.image != identity)
        if not others:
            self._followed(wishes)
            return self._rest(serving)
        [(most, _)] = others.most_common(1)
        old = self._known(next(replica for replica in replicas if replica.image == most))
        number = 1 + (last.number if last else self._highest_recorded())
        rollout = Rollout(number=number, new=new, old=old, wanted=len(replicas), began=self._now())
        rejected = tuple(name for name in self._state.rejected if name != new.name)
        self._state = self._state.model_copy(update={"started": wishes.start, "rejected": rejected}).having(rollout)
        logger.info("rollout {} of {} begins: {}", number, new.name, _described(new))
        return True

    def _is_settled(self, serving: Serving, generations: Generations) -> bool:
        """Whether nothing is being promoted, and what serves has served for the time that it is monitored."""
        if any(entry.preparing for entry in generations.models.values()) or serving.since is None:
            return False
        return (self._now() - serving.since).total_seconds() >= self._choices.settle_seconds

    def _followed(self, wishes: Wishes) -> bool:
        """Nothing is to be done: a request to start is followed by that."""
        self._state = self._state.model_copy(update={"started": wishes.start})
        return False

    def _rests(self, serving: Serving) -> bool:
        return serving == self._rested_on and self._now() < self._rests_until

    def _rest(self, serving: Serving) -> bool:
        """Nothing is to be done as long as `serving` does, unless an operator or the engine's replicas change: the engine is
        asked again after a while, because to ask it every second would cost a third of a core."""
        self._rested_on, self._rests_until = serving, self._now() + REST
        return False

    def _running(self) -> list[Replica]:
        """The replicas that clients use. Raises TargetError if there are none."""
        replicas = [replica for replica in self._target.replicas() if not replica.trial and not replica.exited]
        if not replicas:
            raise TargetError("no replica of the service is running")
        return replicas

    def _highest_recorded(self) -> int:
        """The highest number of a rollout in the history: numbers go on from it if the state was lost, so that wishes about
        earlier rollouts do not concern later ones. Raises OSError."""
        return max((event.rollout or 0 for event in History(self._layout.history).read()), default=0)

    def _known(self, replica: Replica) -> Image:
        """The image of a replica, under a name that stays, with its versions if a rollout brought it."""
        name = self._images.keep(replica.image_name, replica.image)
        for result in reversed(self._state.results):
            for image in (result.new, result.old):
                if image.name == name:
                    return image
        return Image(name=name)

    def _undo(self, last: Rollout, wanted: int) -> None:
        rollout = Rollout(
            number=last.number + 1, new=last.old, old=last.new, wanted=wanted, phase="rolling", began=self._now(), tried=True
        )  # fmt: skip
        rejected = (*(name for name in self._state.rejected if name != last.old.name), last.new.name)
        self._state = self._state.model_copy(update={"rejected": rejected}).having(rollout)
        logger.info("rollout {} undoes rollout {}: back to {}", rollout.number, last.number, last.old.name)

    def _continue(self, current: Rollout, wishes: Wishes, generations: Generations) -> bool:
        new, old = self._identity(current.new), self._identity(current.old)
        replicas = self._target.replicas()
        seen = self._health.look(
            replicas,
            new if current.phase != "going_back" else "",
            trial=current.new.versions,
            serving=Serving.of(generations).versions,
        )
        view = View(
            wanted=current.wanted,
            old=old,
            new=new,
            replicas=seen,
            exists=current.tried or self._images.exists(current.new.name),
            tried=current.tried,
            going_back=current.phase == "going_back",
            stopped=self._stopped(current, wishes, generations),
            losses=current.losses,
            paused=wishes.paused,
        )
        action = next_action(view)
        waiting = None
        if self._choices.is_manual and _advances(action, new):
            step = f"{current.number}/{_step_name(view)}"
            if wishes.approved != step:
                waiting, action = step, next_action(replace(view, approved=False))
        replaced = sum(each.image == new and not each.trial for each in replicas)
        self._state = self._state.model_copy(update={"waiting": waiting, "replaced": replaced})
        if action is None:
            return False
        logger.info("rollout {} of {}: {}", current.number, current.new.name, action)
        self._perform(action, current, {replica.name: replica for replica in replicas}, new, generations)
        return True

    def _identity(self, image: Image) -> str:
        return self._target.identity(image.name) or UNBUILT

    def _stopped(self, current: Rollout, wishes: Wishes, generations: Generations) -> GoBack | None:
        if wishes.cancelled == current.number:
            return GoBack("cancelled", "an operator cancelled it")
        reason = withdrawn(current.new.versions, generations, self._layout)
        return GoBack("withdrawn", reason) if reason else None

    def _perform(
        self, action: Action, current: Rollout, replicas: Mapping[str, Replica], new: str, generations: Generations
    ) -> None:
        match action:
            case Build():
                self._images.build(current.new)
                self._update(current, phase="trying")
            case StartTrial():
                self._update(current, phase="trying")
                self._target.start_trial(current.new)
            case PassTrial():
                self._update(current, phase="rolling", tried=True)
            case Start(image):
                self._target.start(current.new if image == new else current.old)
            case Retire(gone, lost):
                if lost:  # remembered first: the engine forgets it
                    self._update(current, losses=current.losses + 1)
                self._target.retire(replicas[gone.name])
            case GoBack(cause, reason):
                self._go_back(current, cause, reason, generations)
            case Finish():
                self._finish(current)

    def _go_back(self, current: Rollout, cause: str, reason: str, generations: Generations) -> None:
        old = current.old
        if why := withdrawn(old.versions, generations, self._layout):
            old = self._name({})
            logger.warning("rollout {} goes back to {}, because {}", current.number, old.name, why)
        logger.error("rollout {} of {} goes back to {}: {}", current.number, current.new.name, old.name, reason)
        rejected = self._state.rejected if cause == "withdrawn" else (*self._state.rejected, current.new.name)
        self._state = self._state.model_copy(update={"rejected": rejected})
        self._update(current, phase="going_back", old=old, cause=cause, reason=reason, failed_at=self._now())

    def _finish(self, current: Rollout) -> None:
        phase = "rolled_back" if current.phase == "going_back" else "done"
        self._update(current, phase=phase, ended=self._now())
        logger.info("rollout {} of {} is over: {}", current.number, current.new.name, phase)
        kept = [current.new.name, current.old.name, *(replica.image_name for replica in self._target.replicas())]
        for name in self._images.prune(kept):
            logger.info("the image {} was removed", name)

    def _update(self, current: Rollout, **fields: Any) -> None:
        changed = Rollout.model_validate(current.model_dump() | fields)
        if changed != current:
            self._state = self._state.having(changed)
            self._save()

    def _save(self) -> None:
        self._state.write(self._layout.rollout_state)


def _advances(action: Action | None, new: str) -> bool:
    return isinstance(action, Build | StartTrial) or (isinstance(action, Start) and action.image == new)


def _step_name(view: View) -> str:
    """What an operator approves: `build`, `trial`, or the number of the new replica that is to be started."""
    if not view.exists:
        return "build"
    if not view.tried:
        return "trial"
    return str(1 + sum(seen.image == view.new and not seen.trial for seen in view.replicas))


def _described(image: Image) -> str:
    return ", ".join(f"{model} {version}" for model, version in image.versions.items()) or "fallback versions only"
