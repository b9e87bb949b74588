from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.artifacts.features import Histograms
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.web.tickets import ticket_issuer
from model_sync.quality.feedback_store import FeedbackStore
from model_sync.quality.quality import DATABASE, Quality, public_quality
from model_sync.quality.references import References

KEY = "k" * 32
TEXTS: Histograms = {"text_length": {"8": 240, "16": 60}, "label": {"none": 225, "hate": 75}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "store")
    layout.create()
    return layout


@pytest.fixture
def quality(layout: Layout) -> Iterator[Quality]:
    quality = make(layout)
    yield quality
    quality.close()


def make(layout: Layout) -> Quality:
    return Quality(layout, fallbacks=MODELS, window_seconds=60, keys=[KEY], feedback_days=1)


def rate(quality: Quality, right: str, *, known: bool, version: str = BUNDLED_VERSION) -> None:
    ticket = ticket_issuer(KEY, 60)("sentiment", version, [("긍정", 0.9)], "")
    assert ticket
    quality.feedback.give(ticket, [right], known=known)


def answer(layout: Layout, quality: Quality) -> None:
    References(layout.quality).keep_evaluation("kcbert", BUNDLED_VERSION, TEXTS)
    states: list[dict[str, Histograms]] = [{}, {BUNDLED_VERSION: TEXTS}]
    for observed in states:
        Heartbeats(layout.run).write(Heartbeat(worker="one", pid=1, parent=1, role="kcbert", state="ready", observed=observed))
        quality.drift.look()


def scrape(quality: Quality) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(quality.collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_of_drift(layout: Layout, quality: Quality) -> None:
    answer(layout, quality)
    found = scrape(quality)
    assert found.pop(("bunriwiki_drift_psi_threshold", "label", "kcbert", BUNDLED_VERSION)) >= 0.1
    assert found.pop(("bunriwiki_drift_psi_threshold", "text_length", "kcbert", BUNDLED_VERSION)) >= 0.1
    distances = {key for key in found if key[0] in ("bunriwiki_drift_psi", "bunriwiki_drift_js_distance")}
    assert {found.pop(key) for key in distances} == {0}
    assert {key[1] for key in distances} == {"label", "text_length"}
    assert len(distances) == 4
    assert found == {
        ("bunriwiki_drift_window_inputs", "kcbert", BUNDLED_VERSION): 300,
        ("bunriwiki_predicted_label_share", "none", "kcbert", BUNDLED_VERSION): 0.75,
        ("bunriwiki_predicted_label_share", "hate", "kcbert", BUNDLED_VERSION): 0.25,
    }


def test_metrics_of_feedback(quality: Quality) -> None:
    assert scrape(quality) == {}
    for right in ("긍정", "긍정", "부정", "긍정"):
        rate(quality, right, known=True)
    rate(quality, "부정", known=False)
    assert {key: round(value, 9) for key, value in scrape(quality).items()} == {
        ("bunriwiki_feedback_total", "true", "sentiment", BUNDLED_VERSION): 4,
        ("bunriwiki_feedback_total", "false", "sentiment", BUNDLED_VERSION): 1,
        ("bunriwiki_feedback_accuracy_ratio", "true", "sentiment", BUNDLED_VERSION): 0.75,
        ("bunriwiki_feedback_accuracy_ratio", "false", "sentiment", BUNDLED_VERSION): 0,
        ("bunriwiki_feedback_calibration_error_ratio", "true", "sentiment", BUNDLED_VERSION): 0.15,
        ("bunriwiki_feedback_calibration_error_ratio", "false", "sentiment", BUNDLED_VERSION): 0.9,
    }


def test_everybody_sees_figures_and_no_text_of_a_runner(layout: Layout, quality: Quality) -> None:
    answer(layout, quality)
    rate(quality, "긍정", known=True)
    state = quality.state()
    public = public_quality(state)
    assert state.window[0].labels == {"none": 225, "hate": 75}
    assert public.window[0].labels == {}
    assert public.window[0].drift == state.window[0].drift != {}
    assert public.feedback == state.feedback != ()


def test_a_scrape_without_the_database_has_the_rest(layout: Layout, quality: Quality, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(layout, quality)
    monkeypatch.setattr("model_sync.quality.feedback_store.FeedbackStore.totals", _failing)
    assert {key[0] for key in scrape(quality)} >= {"bunriwiki_drift_psi"}


def _failing(_: FeedbackStore) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_the_series_of_a_version_end_with_it(layout: Layout, quality: Quality) -> None:
    folder = layout.version("sentiment", "v1")
    folder.mkdir(parents=True)
    text = (MODELS / "sentiment" / "manifest.yaml").read_text(encoding="utf-8")
    (folder / "manifest.yaml").write_text(text.replace(f"version: {BUNDLED_VERSION}", "version: v1"))
    rate(quality, "긍정", known=True, version="v1")
    assert len(scrape(quality)) == 3
    folder.rename(layout.staging / "removed")
    assert scrape(quality) == {}


def test_the_state(layout: Layout, quality: Quality) -> None:
    answer(layout, quality)
    rate(quality, "긍정", known=True)
    state = quality.state()
    [window] = state.window
    assert (window.model, window.version, window.answers, window.reference) == ("kcbert", BUNDLED_VERSION, 300, "evaluation")
    assert (window.drift["label"].psi, window.drift["label"].drifted) == (0, False)
    [day] = state.feedback
    assert (day.model, day.version, day.known, day.answers, day.accuracy) == ("sentiment", BUNDLED_VERSION, True, 1, 1)
    assert list(day.interval) == pytest.approx([0.2065, 1], abs=1e-4)


def test_feedback_is_kept_over_restarts(layout: Layout, quality: Quality) -> None:
    rate(quality, "긍정", known=True)
    quality.close()
    again = make(layout)
    assert [day.answers for day in again.state().feedback] == [1]
    assert (layout.quality / DATABASE).stat().st_mode & 0o777 == 0o600
    again.close()


def test_it_ends_when_it_shall(quality: Quality) -> None:
    stopping = threading.Event()
    thread = threading.Thread(target=quality.run, args=(stopping,))
    thread.start()
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()
