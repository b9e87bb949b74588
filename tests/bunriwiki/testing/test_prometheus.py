from __future__ import annotations

import pytest

from bunriwiki.testing.prometheus import shortened


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("rate(x[2h])", "rate(x[120s])"),
        ("rate(x[1m])", "rate(x[5s])"),
        ("min_over_time(x[1h] offset 1d)", "min_over_time(x[60s] offset 1440s)"),
        ("        for: 10m", "        for: 10s"),
        ("model:x:ratio_rate1h > 14.4 * 0.001", "model:x:ratio_rate1h > 14.4 * 0.001"),
        ("record: model:x:rate5m", "record: model:x:rate5m"),
        ("time() - x > 1800", "time() - x > 1800"),
    ],
)
def test_only_ranges_and_waits_are_shortened(rule: str, expected: str) -> None:
    assert shortened(rule) == expected
