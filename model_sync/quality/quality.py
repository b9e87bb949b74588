"""All that the sidecar knows of live quality, in one object."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from loguru import logger
from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.model_store.layout import Layout
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.web.tickets import TicketReader
from model_sync.quality.accuracy import interval
from model_sync.quality.collector import QualityCollector
from model_sync.quality.drift_monitor import DriftMonitor
from model_sync.quality.feedback import Feedback
from model_sync.quality.feedback_store import FeedbackStore

DATABASE = "feedback.db"
PRUNE_SECONDS = 3600.0
CONFIDENCE_95 = 1.96  # standard errors


class FeatureDrift(BaseModel):
    """The distance of one feature from its reference, and the PSI above which it has drifted."""

    psi: float
    js_distance: float
    threshold: float
    drifted: bool


class WindowDrift(BaseModel):
    """A version on the sliding window."""

    model: str
    version: str
    answers: int = Field(description="Answers in the window.")
    reference: str | None = Field(description="`evaluation` or `live`; null before there is a reference.")
    labels: dict[str, int] = Field(description="Answers by class that they named; {} without an admin token.")
    drift: dict[str, FeatureDrift] = Field(description="By feature; those with enough inputs.")


class DayQuality(BaseModel):
    """The feedback on a version of one day of UTC."""

    model: str
    version: str
    known: bool
    day: str
    answers: int
    accuracy: float
    interval: tuple[float, float] = Field(description="In which the accuracy lies with 95 % confidence.")


class QualityState(BaseModel):
    """What `GET /quality` answers."""

    model_config = ConfigDict(frozen=True)

    window: tuple[WindowDrift, ...]
    feedback: tuple[DayQuality, ...]


def public_quality(state: QualityState) -> QualityState:
    """What everybody may see: figures, and no text of a runner. All else needs an admin token (`model_store/public.py`)."""
    window = tuple(
        WindowDrift(
            model=figure.model,
            version=figure.version,
            answers=figure.answers,
            reference=figure.reference,
            labels={},  # a runner, which runs third-party code, names them
            drift=figure.drift,
        )
        for figure in state.window
    )
    return QualityState(window=window, feedback=state.feedback)


class Quality:
    """Drift and feedback of the store at `layout`.

    The feedback is in `database` (by default in the store), for `feedback_days`; tickets are signed with one of `keys`. Raises
    DamagedArtifactError, OSError and sqlite3.Error.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        fallbacks: Path,
        window_seconds: float,
        keys: Sequence[str],
        feedback_days: float,
        database: Path | None = None,
        samples: SampleFolder | None = None,
    ) -> None:
        self._feedback_days = feedback_days
        self._store = FeedbackStore(database or layout.quality / DATABASE)
        self.drift = DriftMonitor(layout, fallbacks, window_seconds)
        self.feedback = Feedback(self._store, TicketReader(keys) if keys else None, layout, fallbacks, samples)
        self.collector = QualityCollector(self.drift, self._store)

    def run(self, stopping: threading.Event) -> None:
        """Watch for drift until `stopping` is set, and delete old feedback once an hour."""
        pruning = threading.Thread(target=self._prune, args=(stopping,), name="feedback retention", daemon=True)
        pruning.start()
        self.drift.run(stopping)
        pruning.join()

    def close(self) -> None:
        """Close the database, after `run` has ended."""
        self._store.close()

    def state(self) -> QualityState:
        """Drift on the window, and the feedback by day. Raises sqlite3.Error."""
        return QualityState(
            window=tuple(
                WindowDrift(
                    model=figure.model,
                    version=figure.version,
                    answers=figure.answers,
                    reference=figure.reference,
                    labels=figure.labels,
                    drift={
                        feature: FeatureDrift(
                            psi=drift.psi, js_distance=drift.js_distance, threshold=drift.threshold, drifted=drift.drifted
                        )
                        for feature, drift in figure.drift.items()
                    },
                )
                for figure in self.drift.figures()
            ),
            feedback=tuple(
                DayQuality(
                    model=of.model,
                    version=of.version,
                    known=of.known,
                    day=of.day,
                    answers=of.rated.answers,
                    accuracy=of.rated.accuracy,
                    interval=interval(of.rated, CONFIDENCE_95),
                )
                for of in self._store.by_day()
            ),
        )

    def _prune(self, stopping: threading.Event) -> None:
        while True:
            try:
                self._store.prune(self._feedback_days)
            except sqlite3.Error as error:
                logger.error("old feedback cannot be deleted: {}", error)
            if stopping.wait(PRUNE_SECONDS):
                return
