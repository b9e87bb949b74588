"""One command per model at a time, with the errors of the store as errors of the command."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import GenerationError
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.names import checked_model
from model_sync.admin.status import StoreReader
from model_sync.errors import CommandError


class ExclusiveCommands(StoreReader):
    """What all groups of commands share: the store's writer, and a lock per model. Safe to use from many threads."""

    def __init__(self, writer: StoreWriter) -> None:
        super().__init__(writer.layout)
        self._writer = writer
        self._locks = {model: threading.Lock() for model in MODELS}

    @contextmanager
    def _exclusively(self, model: str) -> Iterator[None]:
        """Reject other commands for `model` meanwhile: a second rollback would go back one version too far."""
        lock = self._locks[checked_model(model)]
        if not lock.acquire(blocking=False):
            raise CommandError("busy", f"Another command for {model} is under way: wait for it, then check the status.")
        try:
            with store_errors():
                yield
        finally:
            lock.release()


@contextmanager
def store_errors() -> Iterator[None]:
    """Raises errors of the store as CommandError."""
    try:
        yield
    except (GenerationError, OSError) as error:
        raise CommandError("failed", f"The store cannot be changed: {error}.") from error


def since(began: float) -> float:
    """The seconds since `began`, a value of `time.monotonic()`."""
    return round(time.monotonic() - began, 2)
