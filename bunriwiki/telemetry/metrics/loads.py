"""The counters of a runner's workers: loads and hot swaps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import Counter

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.telemetry.metrics.values import Key

_HELP = {
    "model_load": "Loads of a version that a worker started.",
    "model_load_success": "Loads of a version that a worker completed.",
    "model_hot_swap": "Changes of the version that a worker answers with, without a restart.",
}


def _counter(name: str) -> Counter:
    return Counter(f"{name}_total", _HELP[name], ["model"])


LOADS = _counter("model_load")
LOADED = _counter("model_load_success")
SWAPS = _counter("model_hot_swap")


def begin_with_models(models: Iterable[str]) -> None:
    """Create the series of these models."""
    for model in models:
        for counter in (LOADS, LOADED, SWAPS):
            counter.labels(model)


@lru_cache
def runner_keys(role: str) -> frozenset[str] | None:
    """The keys of the values that workers of `role` may have; None if all: only runners are sandboxed, and not trusted."""
    if role not in MODELS:
        return None
    labels = (("model", role),)
    return frozenset(Key("counter", "", name, f"{name}_total", labels, text).text() for name, text in _HELP.items())
