"""The service level objectives of docs/slo.md, as shares."""

from __future__ import annotations

ERROR_BUDGET = 0.001
SLOW_BUDGET = 0.01
FAST, SLOW = 14.4, 1.0  # burn rates of the alerts

_ERRORS = (
    'sum by (model) (increase(bunriwiki_prediction_failures_total{{reason!="invalid_input", {0}}}[{1}]) '
    'or increase(bunriwiki_shed_requests_total{{reason="memory", {0}}}[{1}]))'
)
_ANSWERS = "sum by (model) (increase(bunriwiki_prediction_duration_seconds_count{{{0}}}[{1}]))"
_QUICK = 'sum by (model) (increase(bunriwiki_prediction_duration_seconds_bucket{{le="1.0", {0}}}[{1}]))'


def error_budget_left(selector: str, window: str) -> str:
    """The share of the error budget that is left, if the window were the whole period."""
    errors, answers = _ERRORS.format(selector, window), _ANSWERS.format(selector, window)
    return f"1 - {errors} / ({errors} + {answers}) / {ERROR_BUDGET}"


def slow_budget_left(selector: str, window: str) -> str:
    """The share of the latency budget that is left, if the window were the whole period."""
    quick, answers = _QUICK.format(selector, window), _ANSWERS.format(selector, window)
    return f"1 - (1 - {quick} / {answers}) / {SLOW_BUDGET}"
