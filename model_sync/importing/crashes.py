"""Counts the crashes of imports, because a crash may be the fault of the version or of this machine."""

from __future__ import annotations

import threading
from collections import Counter


class CrashCounter:
    """The number of crashed imports of each offer, by its digest, since the sidecar started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._crashes: Counter[str] = Counter()

    def add(self, digest: str) -> int:
        """Count a crash, and return how many there have been of this digest. Each number is returned once."""
        with self._lock:
            self._crashes[digest] += 1
            return self._crashes[digest]
