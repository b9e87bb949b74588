"""Watches the live traffic of every version for drift."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.features import LABEL, Histogram, Histograms, inputs
from bunriwiki.artifacts.manifest import MODELS, Manifest
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.layout import Layout
from model_sync.quality.drift import Drift, compare
from model_sync.quality.references import LIVE_INPUTS, Kind, References
from model_sync.quality.window import Key, SlidingWindow

POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class VersionDrift:
    """A version on the sliding window: its answers, their labels, and the drift of each feature from its `reference`."""

    model: str
    version: str
    answers: int
    labels: Histogram
    reference: Kind | None
    drift: Mapping[str, Drift]


class DriftMonitor:
    """Compares what each version answered in the last `seconds` with its reference. Any thread may call `figures`.

    The first `LIVE_INPUTS` live answers of a version become its reference. `fallbacks` is the folder of the bundled versions.
    Raises DamagedArtifactError if one of them has no manifest.
    """

    def __init__(self, layout: Layout, fallbacks: Path, seconds: float, window: SlidingWindow | None = None) -> None:
        self._layout = layout
        self._bundled = {model: Manifest.read(fallbacks / model).version for model in MODELS}
        self._references = References(layout.quality)
        self._window = window or SlidingWindow(Heartbeats(layout.run), seconds)
        self._figures: tuple[VersionDrift, ...] = ()
        self._drifted: set[tuple[str, str, str]] = set()

    def run(self, stopping: threading.Event) -> None:
        """Watch until `stopping` is set."""
        while True:
            try:
                self.look()
            except Exception:  # a full disk, for example: drift is watched as soon as the store can be used again
                logger.exception("drift cannot be watched")
            if stopping.wait(POLL_SECONDS):
                return

    def figures(self) -> tuple[VersionDrift, ...]:
        """The versions that answered within the window."""
        return self._figures

    def look(self) -> None:
        """Read the heartbeats and compare. Raises OSError."""
        known = self.known()
        counted = self._window.read()
        self._window.forget({(model, version) for model, version in counted if version not in known[model]})
        self._figures = tuple(self._compare(key, window) for key, window in sorted(counted.items()) if key[1] in known[key[0]])
        self._log()
        self._references.tidy(known)

    def known(self) -> dict[str, set[str]]:
        """The versions in the store and the bundled version of each model: no other name in a heartbeat counts."""
        return {model: {*self._layout.versions(model), bundled} for model, bundled in self._bundled.items()}

    def _compare(self, key: Key, window: Histograms) -> VersionDrift:
        model, version = key
        reference = self._references.read(model, version)
        if reference.live is None and inputs(total := self._window.total(key)) >= LIVE_INPUTS:
            self._references.keep_live(model, version, total)
            reference = self._references.read(model, version)
        drift = compare(reference.current, window)
        return VersionDrift(model, version, inputs(window), window.get(LABEL, {}), reference.kind, drift)

    def _log(self) -> None:
        now = {
            (figure.model, figure.version, feature): (figure, drift)
            for figure in self._figures
            for feature, drift in figure.drift.items()
            if drift.drifted
        }
        for (model, version, feature), (figure, drift) in now.items():
            if (model, version, feature) not in self._drifted:
                logger.warning(
                    "{} {}: {} has drifted from its {} reference: PSI {:.2f}, {:.2f} is usual; {} answers",
                    model, version, feature, figure.reference, drift.psi, drift.threshold, figure.answers,
                )  # fmt: skip
        for model, version, feature in self._drifted - now.keys():
            logger.info("{} {}: {} has not drifted any more", model, version, feature)
        self._drifted = set(now)
