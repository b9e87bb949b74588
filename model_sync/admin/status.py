"""The status of the store and its history, for operators. Neither takes a lock or needs a running sidecar."""

from __future__ import annotations

from collections import deque

from bunriwiki.model_store.generation import GenerationError
from bunriwiki.model_store.history import Event, History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.status import StoreStatus, read_status
from model_sync.admin.names import checked_model
from model_sync.errors import CommandError
from model_sync.rollout.state import StateError
from model_sync.rollout.status import RolloutStatus
from model_sync.rollout.wishes import WishesError

SHOWN = 50  # events of the history, by default


class StoreReader:
    """Reads the store at `layout`, which need not exist."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def status(self) -> StoreStatus:
        """The current status. Raises CommandError if the store cannot be read."""
        try:
            return read_status(self.layout)
        except (GenerationError, OSError) as error:
            raise CommandError("failed", str(error)) from error

    def image_rollout_status(self) -> RolloutStatus:
        """The status of the rollout of images. Raises CommandError if the store cannot be read."""
        try:
            return RolloutStatus.read(self.layout)
        except (StateError, WishesError) as error:
            raise CommandError("failed", str(error)) from error

    def history(self, model: str | None = None, last: int = SHOWN) -> list[Event]:
        """The `last` events, of one model or of all, oldest first. Raises CommandError for an unknown model."""
        events = History(self.layout.history).read(None if model is None else checked_model(model))
        return list(deque(events, maxlen=last))
