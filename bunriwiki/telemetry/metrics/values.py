"""Where the metrics of `prometheus_client` keep their values: in a file that other processes read.

The library has such a class of its own (multiprocess mode). It asks for the process id and looks up a key at every increment;
an increment here is one addition in mapped memory, half the time (benchmarks/metrics.py). And the library cannot merge the
files of dead processes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import prometheus_client
from prometheus_client import Counter, Gauge, values

from bunriwiki.telemetry.metrics.value_file import WORD, Cell, ValueFile

SUFFIX = ".values"
# What the sum over processes of a gauge is; other modes of prometheus_client are not in use here.
LIVE_SUM: Literal["livesum"] = "livesum"  # the sum over live processes
MAX: Literal["max"] = "max"  # the largest of all processes, dead ones included


class Key(NamedTuple):
    """What a value belongs to: a sample of a metric. `kind` is the metric's type, `mode` says how a gauge is summed up."""

    kind: str
    mode: str
    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str

    def text(self) -> str:
        """The key in the file."""
        return json.dumps(self, ensure_ascii=False)

    @classmethod
    @lru_cache(maxsize=2**15)
    def parse(cls, text: str) -> Key:
        """The key with this text, which `text` has made."""
        kind, mode, metric, sample, labels, help_text = json.loads(text)
        return cls(kind, mode, metric, sample, tuple((name, value) for name, value in labels), help_text)


def share_values(folder: Path | None) -> None:
    """Have metrics keep their values in a file in `folder`, which must exist, or in the memory of this process if it is None.

    This applies to labels that do not exist yet. The process must not fork afterwards, unless the child replaces itself or
    counts nothing: it would share the file.
    """
    lock = threading.Lock()
    values.ValueClass = _value_class(_in_memory if folder is None else _OwnFile(folder, lock).cell, lock)


def _in_memory(_: Key) -> Cell:
    return Cell(memoryview(bytearray(WORD)).cast("d"), 0)


class _OwnFile:
    """The file of this process in `folder`. A process that counts nothing has none."""

    def __init__(self, folder: Path, lock: threading.Lock) -> None:
        self._folder = folder
        self._lock = lock
        self._file: ValueFile | None = None

    def cell(self, key: Key) -> Cell:
        with self._lock:
            if self._file is None:  # no other process has or had the same name
                self._file = ValueFile(self._folder / f"{os.getpid()}-{time.time_ns():x}{SUFFIX}")
            return self._file.cell(key.text())


def _value_class(cell: Callable[[Key], Cell], lock: threading.Lock) -> type:
    """The class of values in the cells that `cell` returns. `lock` is held for each change."""

    class SharedValue:
        """A number in a cell (the interface of `prometheus_client.values.MutexValue`). Thread-safe."""

        _multiprocess = True
        __slots__ = ("_at", "_words")
        shared_lock = lock

        def __init__(  # noqa: PLR0917 - the library's signature
            self,
            kind: str,
            metric: str,
            sample: str,
            label_names: Sequence[str],
            label_values: Sequence[str],
            help_text: str,
            multiprocess_mode: str = "",
            **_: object,
        ) -> None:
            labels = tuple(zip(label_names, label_values, strict=True))
            self._words, self._at = cell(Key(kind, multiprocess_mode, metric, sample, labels, help_text))

        def inc(self, amount: float) -> None:
            with lock:
                self._words[self._at] += amount

        def observe(self, bucket: SharedValue, amount: float) -> None:
            """Count an observation of `amount` in this sum, and in its bucket."""
            with lock:
                self._words[self._at] += amount
                bucket._words[bucket._at] += 1.0

        def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - the library's signature
            self._words[self._at] = value

        def get(self) -> float:
            return self._words[self._at]

        def set_exemplar(self, exemplar: object) -> None:
            """Exemplars do not exist in multiprocess mode."""

        def get_exemplar(self) -> None:
            return None

    return SharedValue


class Additions:
    """Metrics that change together, for a fraction of what single changes cost: one lock for all, and no checks.

    All are children, with labels; at least one.
    """

    def __init__(self, sums: Sequence[Counter | Gauge] = (), histograms: Sequence[Histogram] = ()) -> None:
        self._sums = [_place(metric._value) for metric in sums]
        self._histograms = [
            (*_place(histogram._sum), histogram._upper_bounds, [_place(bucket) for bucket in histogram._buckets])
            for histogram in histograms
        ]
        self._lock = (sums[0]._value if sums else histograms[0]._sum).shared_lock

    def add(self, amounts: Sequence[float], observations: Sequence[float] = ()) -> None:
        """Add `amounts` to the sums, and an observation to each histogram, in their order. What has none stays as it is."""
        with self._lock:
            for (words, at), amount in zip(self._sums, amounts, strict=False):
                words[at] += amount
            for (words, at, bounds, buckets), observed in zip(self._histograms, observations, strict=False):
                words[at] += observed
                bucket_words, bucket_at = buckets[bisect_left(bounds, observed)]
                bucket_words[bucket_at] += 1.0


def _place(value: Any) -> Cell:
    return Cell(value._words, value._at)


class Histogram(prometheus_client.Histogram):
    """The library's histogram, with observations in half the time: the bucket is found by bisection, and one lock is taken."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002 - the library's signature
        self._sum.observe(self._buckets[bisect_left(self._upper_bounds, amount)], amount)
