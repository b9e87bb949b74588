"""The metrics of drift and feedback, computed at each scrape of the sidecar."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator

from loguru import logger
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_sync.quality.accuracy import calibration_error
from model_sync.quality.drift_monitor import DriftMonitor
from model_sync.quality.feedback_store import FeedbackStore

RATED_SECONDS = 7 * 86_400.0  # of feedback that the accuracy is computed from
MAX_LABELS = 50  # with a share of their own


class QualityCollector(Collector):
    """Only versions that are in the store, or bundled, have series. `now` returns the seconds since the epoch."""

    def __init__(self, drift: DriftMonitor, feedback: FeedbackStore, now: Callable[[], float] = time.time) -> None:
        self._drift = drift
        self._feedback = feedback
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._drifts()
        try:
            yield from list(self._ratings())
        except sqlite3.Error as error:
            logger.error("the feedback cannot be read: {}", error)

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry need not read the database to register this."""
        yield from ()

    def _drifts(self) -> Iterator[Metric]:
        feature, version = ["model", "version", "feature"], ["model", "version"]
        psi = GaugeMetricFamily(
            "bunriwiki_drift_psi", "Population stability index of the window against the reference.", labels=feature
        )
        threshold = GaugeMetricFamily(
            "bunriwiki_drift_psi_threshold", "Population stability index above which a feature has drifted.", labels=feature
        )
        distance = GaugeMetricFamily(
            "bunriwiki_drift_js_distance", "Jensen-Shannon distance of the window from the reference, 0 to 1.", labels=feature
        )
        answers = GaugeMetricFamily("bunriwiki_drift_window_inputs", "Answers in the sliding window.", labels=version)
        shares = GaugeMetricFamily(
            "bunriwiki_predicted_label_share",
            "Share of the answers that name a class, on the window.",
            labels=[*version, "label"],
        )
        for figure in self._drift.figures():
            key = [figure.model, figure.version]
            answers.add_metric(key, figure.answers)
            for name, drift in figure.drift.items():
                psi.add_metric([*key, name], drift.psi)
                threshold.add_metric([*key, name], drift.threshold)
                distance.add_metric([*key, name], drift.js_distance)
            for label, count in sorted(figure.labels.items(), key=lambda item: -item[1])[:MAX_LABELS]:
                shares.add_metric([*key, label], count / figure.answers)
        yield from (psi, threshold, distance, answers, shares)

    def _ratings(self) -> Iterator[Metric]:
        labels = ["model", "version", "known"]
        total = CounterMetricFamily("bunriwiki_feedback", "Answers that were rated by feedback.", labels=labels)
        accuracy = GaugeMetricFamily(
            "bunriwiki_feedback_accuracy_ratio", "Share of right answers among those rated in the last 7 days.", labels=labels
        )
        error = GaugeMetricFamily(
            "bunriwiki_feedback_calibration_error_ratio",
            "Expected calibration error of the answers rated in the last 7 days.",
            labels=labels,
        )
        known = self._drift.known()
        for (model, version, is_known), answers in sorted(self._feedback.totals().items()):
            if version in known.get(model, ()):
                total.add_metric([model, version, _word(is_known)], answers)
        for quality in self._feedback.quality(self._now() - RATED_SECONDS):
            if quality.version in known.get(quality.model, ()):
                key = [quality.model, quality.version, _word(quality.known)]
                accuracy.add_metric(key, quality.rated.accuracy)
                if not math.isnan(expected := calibration_error(quality.bins)):
                    error.add_metric(key, expected)
        yield from (total, accuracy, error)


def _word(known: bool) -> str:
    return "true" if known else "false"
