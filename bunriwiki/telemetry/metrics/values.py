"""Where the metrics of `prometheus_client` keep their values: in files that other processes read.

The library has such a class of its own (multiprocess mode), which asks for the process id at every increment, and cannot merge
the files of dead processes. What the event loop counts together for a request is one record in mapped memory (`recorder`): the
library's methods take a lock and check their arguments, for each number (benchmarks/metrics.py).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.utils import floatToGoString

from bunriwiki.telemetry.metrics.record_file import Field, FullFileError, RecordFile
from bunriwiki.telemetry.metrics.value_file import WORD, Cell, ValueFile

SUFFIX = ".values"
RECORDS_SUFFIX = ".records"
# What the sum over processes of a gauge is; other modes of prometheus_client are not in use here.
LIVE_SUM: Literal["livesum"] = "livesum"  # the sum over live processes
BOUND = "le"  # the label of a histogram's bucket
MARK = "(bound)"
MAX: Literal["max"] = "max"  # the largest of all processes, dead ones included

Child: TypeAlias = Counter | Gauge | Histogram  # of a metric: one combination of its labels


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
    values.ValueClass = _value_class(_InMemory() if folder is None else _OwnFiles(folder, lock), lock)


class _InMemory:
    """Values that only this process reads."""

    def cell(self, _: Key) -> Cell:
        return Cell(memoryview(bytearray(WORD)).cast("d"), 0)

    def recorder(self, changes: Sequence[Sequence[Child]]) -> Callable[..., None]:
        of_amounts = [
            [child.observe if isinstance(child, Histogram) else child.inc for child in children] for children in changes
        ]

        def record(*amounts: float) -> None:
            for of_amount, amount in zip(of_amounts, amounts, strict=False):
                for change in () if math.isnan(amount) else of_amount:
                    change(amount)

        return record


class _OwnFiles:
    """The files of this process in `folder`. A process that counts nothing has none."""

    def __init__(self, folder: Path, lock: threading.Lock) -> None:
        self._folder = folder
        self._lock = lock
        self._values: ValueFile | None = None
        self._records: RecordFile | None = None

    def cell(self, key: Key) -> Cell:
        with self._lock:
            if self._values is None:
                self._values = ValueFile(self._path(SUFFIX))
            return self._values.cell(key.text())

    def recorder(self, changes: Sequence[Sequence[Child]]) -> Callable[..., None]:
        fields = [[_field(child) for child in children] for children in changes]
        with self._lock:
            if self._records is not None:
                with contextlib.suppress(FullFileError):
                    return self._records.define(fields)
            self._records = RecordFile(self._path(RECORDS_SUFFIX))
            return self._records.define(fields)

    def _path(self, suffix: str) -> Path:
        """No other process has or had the same name."""
        return self._folder / f"{os.getpid()}-{time.time_ns():x}{suffix}"


def _field(child: Child) -> Field:
    if not isinstance(child, Histogram):
        return Field(_value(child).key.text())
    key = _value(child).key
    of_buckets = Key.text(key._replace(sample=f"{key.metric}_bucket", labels=(*key.labels, (BOUND, MARK))))
    before, after = of_buckets.split(json.dumps(MARK))
    return Field(key.text(), (f'{before}"', f'"{after}'), tuple(floatToGoString(bound) for bound in child._upper_bounds))


def _value_class(files: _InMemory | _OwnFiles, lock: threading.Lock) -> type:
    """The class of values in the cells of `files`. `lock` is held for each change."""

    class SharedValue:
        """A number in a cell (the interface of `prometheus_client.values.MutexValue`). Thread-safe."""

        _multiprocess = True
        __slots__ = ("_at", "_words", "key")
        recorder = files.recorder

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
            self.key = Key(kind, multiprocess_mode, metric, sample, labels, help_text)
            self._words, self._at = files.cell(self.key)

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


def recorder(*changes: Sequence[Child]) -> Callable[..., None]:
    """A function that counts an amount for each of `changes`, at once and in their order.

    An amount changes all children of its sequence: it is added to counters and gauges, and observed in histograms. An amount
    that is `NOTHING`, or left out, changes nothing. Use the function from one thread only: here the event loop. In a shared
    file, the library's own methods do not see what it counts.
    """
    found: Callable[..., None] = _value(next(chain(*changes))).recorder(changes)
    return found


def _value(child: Child) -> Any:
    """The value of a child; of a histogram, its sum."""
    return child._sum if isinstance(child, Histogram) else child._value
