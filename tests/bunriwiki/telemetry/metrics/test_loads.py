from __future__ import annotations

from prometheus_client import REGISTRY

from bunriwiki.telemetry.metrics import loads
from bunriwiki.telemetry.metrics.values import Key


def test_series_exist_from_the_start() -> None:
    loads.begin_with_models(["somebody"])
    for name in ("model_load_total", "model_load_success_total", "model_hot_swap_total"):
        assert REGISTRY.get_sample_value(name, {"model": "somebody"}) == 0


def test_the_keys_of_a_runner_are_those_of_its_counters() -> None:
    assert loads.runner_keys("gateway") is None
    keys = {Key.parse(text) for text in loads.runner_keys("yolo") or ()}
    documented = {metric.name: metric.documentation for metric in REGISTRY.collect()}
    assert {key.metric: key.help for key in keys}.items() <= documented.items()
    assert len(keys) == 3
    assert {key.labels for key in keys} == {(("model", "yolo"),)}
