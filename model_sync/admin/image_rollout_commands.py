"""The commands about the rollout of images. Each writes a wish, which the rollout's process follows within a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, get_args

from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.exclusive import ExclusiveCommands, store_errors
from model_sync.errors import CommandError
from model_sync.rollout.recorder import ALL_MODELS
from model_sync.rollout.state import Rollout
from model_sync.rollout.status import RolloutStatus
from model_sync.rollout.wishes import Wishes

ImageRolloutCommand = Literal["start", "pause", "resume", "approve", "cancel", "undo"]
COMMANDS: tuple[ImageRolloutCommand, ...] = get_args(ImageRolloutCommand)


class ImageRolloutCommands(ExclusiveCommands):
    """The commands. Every method raises CommandError, and then nothing has changed."""

    def __init__(self, writer: StoreWriter) -> None:
        super().__init__(writer)
        self._wishing = threading.Lock()

    def image_rollout(self, command: ImageRolloutCommand) -> RolloutStatus:
        """Write the wish of an operator, and record it in the history; returns the status of that moment.

        `start`: begin a rollout at once, also of an image that failed. `pause`: no further replica gets the new image, until
        `resume`. `approve`: take the step that waits. `cancel`: end the rollout that is under way on the old image. `undo`:
        after a rollout, bring back the image that ran before.
        """
        with self._wishing, store_errors():
            status = self.image_rollout_status()
            change = _change(command, status)
            change(Wishes.read(self.layout.rollout_wishes)).write(self.layout.rollout_wishes)
            number = status.rollout.number if status.rollout else None
            self._writer.record("rollout_command", ALL_MODELS, by="operator", reason=command, rollout=number)
            return self.image_rollout_status()


def _change(command: ImageRolloutCommand, status: RolloutStatus) -> Callable[[Wishes], Wishes]:
    """How the command changes the wishes. Raises CommandError if there is nothing that it concerns."""
    match command:
        case "start":
            return lambda old: old.model_copy(update={"start": old.start + 1})
        case "pause" | "resume":
            return lambda old: old.model_copy(update={"paused": command == "pause"})
        case "approve":
            update: dict[str, object] = {"approved": _waiting(status)}
        case "cancel":
            update = {"cancelled": _under_way(status).number}
        case "undo":
            update = {"undone": _done(status).number}
    return lambda old: old.model_copy(update=update)


def _waiting(status: RolloutStatus) -> str:
    if status.waiting is None:
        raise CommandError("nothing", "No step of a rollout waits for an approval.")
    return status.waiting


def _under_way(status: RolloutStatus) -> Rollout:
    if status.rollout is None or status.rollout.is_over:
        raise CommandError("nothing", "No rollout is under way. `rollout undo` takes back one that is over.")
    return status.rollout


def _done(status: RolloutStatus) -> Rollout:
    rollout = status.rollout
    if rollout is None or rollout.phase == "rolled_back":
        raise CommandError("nothing", "There is no rollout to undo: the old image runs.")
    if rollout.phase != "done":
        raise CommandError("busy", "A rollout is under way. `rollout cancel` ends it on the old image.")
    return rollout
