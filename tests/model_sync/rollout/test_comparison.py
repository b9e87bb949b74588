from __future__ import annotations

import pytest

from model_sync.rollout.comparison import Figures, Limits, worse

LIMITS = Limits(requests=50, error_points=5, latency_ratio=2)
SCRAPE = """
# TYPE bunriwiki_predictions counter
bunriwiki_predictions_total{model="yolo",version="v1"} 10
bunriwiki_predictions_total{model="kcbert",version="v1"} 5
# TYPE bunriwiki_prediction_failures counter
bunriwiki_prediction_failures_total{model="yolo",version="v1",reason="model_error"} 2
bunriwiki_prediction_failures_total{model="yolo",version="v1",reason="invalid_input"} 7
# TYPE bunriwiki_prediction_duration_seconds histogram
bunriwiki_prediction_duration_seconds_bucket{model="yolo",version="v1",le="0.1"} 4
bunriwiki_prediction_duration_seconds_bucket{model="yolo",version="v1",le="+Inf"} 10
bunriwiki_prediction_duration_seconds_bucket{model="yolo",version="v2",le="0.1"} 1
bunriwiki_prediction_duration_seconds_bucket{model="yolo",version="v2",le="+Inf"} 1
"""


def times(fast: float, slow: float, model: str = "yolo") -> Figures:
    """`fast` answers within 20 ms, `slow` ones within 100 ms."""
    return Figures(answers=fast + slow, times={(model, 0.02): fast, (model, 0.1): fast + slow})


def test_a_scrape() -> None:
    figures = Figures.parse(SCRAPE)
    assert (figures.answers, figures.failures) == (15, 2)
    assert figures.times == {("yolo", 0.1): 5, ("yolo", float("inf")): 11}


def test_what_was_counted_since() -> None:
    before, now = Figures(10, 1, {("yolo", 0.1): 4.0}), Figures(30, 2, {("yolo", 0.1): 9.0})
    assert now.since(before) == Figures(20, 1, {("yolo", 0.1): 5.0})
    assert before.since(now) == before  # it restarted
    assert Figures.total([before, now]) == Figures(40, 3, {("yolo", 0.1): 13.0})


def test_the_median_is_interpolated() -> None:
    assert times(100, 0).median_seconds("yolo") == (0.01, 100)
    assert times(0, 100).median_seconds("yolo")[0] == pytest.approx(0.06)
    assert Figures().median_seconds("yolo") == (0.0, 0.0)
    beyond = Figures(times={("yolo", 0.1): 0.0, ("yolo", float("inf")): 10.0})
    assert beyond.median_seconds("yolo") == (0.1, 10)


@pytest.mark.parametrize(
    ("new", "old", "cause"),
    [
        (Figures(100, 0), Figures(100, 0), None),
        (Figures(100, 5), Figures(100, 0), None),
        (Figures(94, 6), Figures(100, 0), "errors"),
        (Figures(94, 6), Figures(94, 6), None),
        (Figures(40, 5), Figures(100, 0), None),  # too few to say
        (times(0, 100), times(100, 0), "latency"),
        (times(0, 100), times(0, 100), None),
        (times(0, 49), times(100, 0), None),
        (times(0, 100), times(49, 0), None),
        (times(0, 100), times(100, 0, "kcbert"), None),  # other models
    ],
)
def test_worse(new: Figures, old: Figures, cause: str | None) -> None:
    found = worse(new, old, LIMITS)
    assert (found.cause if found else None) == cause


def test_the_sentence_has_the_figures() -> None:
    found = worse(times(0, 100), times(100, 0), LIMITS)
    assert found is not None
    assert found.reason == "yolo takes 60.0 ms on new replicas (old replicas: 10.0 ms)"
