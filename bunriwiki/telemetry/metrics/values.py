"""Where the metrics of `prometheus_client` keep their values: in a file that other processes read.

The library has such a class of its own (multiprocess mode), which asks for the process id at every increment, and cannot merge
the files of dead processes. What the event loop counts for each request is one addition in mapped memory (`Amount`,
`Distribution`): the library's methods take a lock and check their arguments, for four times as long (benchmarks/metrics.py).
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

from prometheus_client import Counter, Gauge, Histogram, values

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

        def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - the library's signature
            self._words[self._at] = value

        def get(self) -> float:
            return self._words[self._at]

        def set_exemplar(self, exemplar: object) -> None:
            """Exemplars do not exist in multiprocess mode."""

        def get_exemplar(self) -> None:
            return None

    return SharedValue


class Amount:
    """A child of a counter or gauge, for changes that cost a tenth of a microsecond: without its lock and its checks.

    Only one thread may change the child: here the event loop.
    """

    __slots__ = ("_at", "_words")

    def __init__(self, metric: Counter | Gauge) -> None:
        self._words, self._at = _place(metric._value)

    def add(self, amount: float) -> None:
        self._words[self._at] += amount

    def set(self, amount: float) -> None:
        self._words[self._at] = amount


class Distribution:
    """A child of a histogram, for observations that cost a fifth of a microsecond. Only one thread may change the child."""

    __slots__ = ("_at", "_bounds", "_buckets", "_words")

    def __init__(self, histogram: Histogram) -> None:
        self._words, self._at = _place(histogram._sum)
        self._bounds = histogram._upper_bounds
        self._buckets = [_place(bucket) for bucket in histogram._buckets]

    def observe(self, amount: float) -> None:
        self._words[self._at] += amount
        words, at = self._buckets[bisect_left(self._bounds, amount)]
        words[at] += 1.0


def _place(value: Any) -> Cell:
    return Cell(value._words, value._at)
