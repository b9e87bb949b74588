"""Where the metrics of `prometheus_client` keep their values: in a file that other processes read.

The library has such a class of its own (multiprocess mode). It asks for the process id and looks up a key at every increment;
an increment here is one addition in mapped memory, a third of the time (benchmarks/metrics.py). And the library cannot merge
the files of dead processes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from prometheus_client import values

from bunriwiki.telemetry.metrics.value_file import Cell, ValueFile

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


def share_values(folder: Path) -> None:
    """Have metrics keep their values in a file in `folder`, which must exist, as of now; labels that exist stay as they are.

    The process must not fork afterwards, unless the child replaces itself or counts nothing: it would share the file.
    """
    file: ValueFile | None = None
    lock = threading.Lock()

    def cell(key: Key) -> Cell:
        nonlocal file
        with lock:
            if file is None:  # a process that counts nothing has no file. No other process has or had the same name.
                file = ValueFile(folder / f"{os.getpid()}-{time.time_ns():x}{SUFFIX}")
            return file.cell(key.text())

    class SharedValue:
        """A number in the file of this process (the interface of `prometheus_client.values.MutexValue`). Thread-safe."""

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

    values.ValueClass = SharedValue
