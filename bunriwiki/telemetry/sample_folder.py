"""The folder with sampled predictions: a JSON file per sample, and beside it the photo if inputs are kept.

    <folder>/<model>/<nanoseconds since the epoch>~<request id>~<number>.json

A file is written aside (`.<its name>.part`) and renamed, so any number of processes may write, and whoever reads `*.json` never
sees half a sample. What a killed process left aside is pruned and forgotten with its sample.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

DAY = 86_400.0
SEPARATOR = "~"  # no request id contains it
PHOTO = ".photo"
PART = ".part"


class SampleFolder:
    """The samples in `folder`. Those older than `days`, and the oldest beyond `max_bytes` in all, are deleted by `prune`."""

    def __init__(self, folder: Path, days: float, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._days = days
        self._max_bytes = max_bytes
        self._now = now
        self._written = 0

    def write(self, model: str, request_id: str, fields: Mapping[str, Any], photo: bytes | None = None) -> None:
        """Write a sample with these fields. Raises OSError."""
        self._written += 1
        name = SEPARATOR.join([f"{int(self._now() * 1e9)}", request_id, f"{os.getpid()}-{self._written}"])
        folder = self._folder / model
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if photo is not None:
            _write(folder / f"{name}{PHOTO}", photo)
        _write(folder / f"{name}.json", json.dumps(dict(fields), ensure_ascii=False).encode())

    def forget(self, request_id: str) -> int:
        """Delete the samples of a request; how many there were. Raises OSError."""
        found = [path for path in self._files() if path.name.split(SEPARATOR)[1:2] == [request_id]]
        for path in found:
            path.unlink(missing_ok=True)
        return sum(path.suffix == ".json" for path in found)

    def prune(self) -> None:
        """Delete the samples that are too old or too much, each with its photo."""
        oldest = self._now() - self._days * DAY
        left = self._max_bytes
        files = sorted(self._files(), key=_sample, reverse=True)
        for (written_at, _), of_sample in groupby(files, key=_sample):
            paths = list(of_sample)
            left -= sum(map(_size, paths))
            if left < 0 or written_at < oldest:
                for path in paths:
                    path.unlink(missing_ok=True)

    def _files(self) -> Iterable[Path]:
        return [path for path in self._folder.glob("*/*") if path.name.count(SEPARATOR) == 2]


def _sample(path: Path) -> tuple[float, str]:
    """When the sample of a file was written, in seconds since the epoch, and the sample's name."""
    name = path.name.lstrip(".").removesuffix(PART).removesuffix(".json").removesuffix(PHOTO)
    return int(name.split(SEPARATOR)[0]) / 1e9, name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process deleted it
        return 0


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}{PART}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    aside.replace(path)
