"""Accepts feedback: the right labels for an earlier answer, which a ticket names."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.web.tickets import TicketError, TicketExpiredError, TicketReader
from model_sync.errors import FeedbackError
from model_sync.quality.accuracy import Rated
from model_sync.quality.feedback_store import FeedbackStore, TicketUsedError, TooManyTicketsError


class Feedback:
    """Checks feedback, and keeps it in `store`.

    `reader` is None where no key is set: then there are no tickets. `fallbacks` is the folder of the bundled versions.
    `samples` are the sampled predictions of the service, None if this process does not know them.
    """

    def __init__(
        self,
        store: FeedbackStore,
        reader: TicketReader | None,
        layout: Layout,
        fallbacks: Path,
        samples: SampleFolder | None = None,
    ) -> None:
        self.store = store
        self._reader = reader
        self._layout = layout
        self._fallbacks = fallbacks
        self._samples = samples

    def give(self, ticket: str, labels: Sequence[str], *, known: bool) -> bool:
        """Keep the right labels for an answer; whether it was right. Raises FeedbackError and sqlite3.Error.

        A text has exactly one label. A photo has the classes of what is in it, or none if nothing is.
        """
        if self._reader is None:
            raise FeedbackError("closed", "Feedback is closed here: BUNRIWIKI_FEEDBACK_KEY is not set.")
        try:
            read = self._reader.read(ticket)
        except TicketExpiredError:
            raise FeedbackError("expired", "The ticket has expired. Feedback on this answer comes too late.") from None
        except TicketError:
            raise FeedbackError("invalid", "The ticket is not valid. Send it as it came with the answer.") from None
        self._check(read.model, read.version, labels)
        try:
            return self.store.add(read, labels, known=known)
        except TicketUsedError:
            raise FeedbackError("used", "Feedback with this ticket was given before. A ticket is valid once.") from None
        except TooManyTicketsError:
            raise FeedbackError("full", "There was too much feedback of late. Try again tomorrow.") from None

    def rated(self, model: str, version: str, since: float) -> Rated:
        """The known feedback on a version that came after `since`; none if the database cannot be read, which is logged.

        `version` may be `FALLBACK`.
        """
        if version == FALLBACK:  # tickets have the bundled version's own name
            version = Manifest.read(self._fallbacks / model).version
        try:
            return self.store.rated(model, version, since)
        except sqlite3.Error as error:
            logger.error("the feedback on {} {} cannot be read: {}", model, version, error)
            return Rated()

    def forget(self, request_id: str) -> tuple[int, int]:
        """Delete what is kept of a request: how much feedback, and how many samples. Raises OSError and sqlite3.Error."""
        return self.store.forget(request_id), self._samples.forget(request_id) if self._samples else 0

    def _check(self, model: str, version: str, labels: Sequence[str]) -> None:
        if model != "yolo" and len(labels) != 1:
            raise FeedbackError("wrong", f"An answer of {model} has exactly one right label; {len(labels)} were sent.")
        known = self._classes(model, version)
        for label in labels:
            if label not in known:
                raise FeedbackError("wrong", f"{model} has no class {label[:60]!r}. The classes are {', '.join(known)}.")

    def _classes(self, model: str, version: str) -> list[str]:
        for folder in (self._layout.version(model, version), self._fallbacks / model):
            try:
                manifest = Manifest.read(folder)
            except DamagedArtifactError:
                continue
            if manifest.version == version:
                return [label.name for label in manifest.labels]
        raise FeedbackError("expired", f"{model} {version} is no longer in the store. Feedback on this answer comes too late.")
