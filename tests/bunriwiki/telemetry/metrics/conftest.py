from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import values

from bunriwiki.telemetry.metrics.value_file import ValueFile
from bunriwiki.telemetry.metrics.values import SUFFIX

_starts = itertools.count(1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the values of a service."""
    for role in ("gateway", "yolo", "supervisor"):
        (tmp_path / role).mkdir()
    return tmp_path


@pytest.fixture
def worker(root: Path) -> Callable[..., ValueFile]:
    """Starts workers: the file of a process `pid` of `role`."""

    def start(pid: int, role: str = "gateway") -> ValueFile:
        return ValueFile(root / role / f"{pid}-{next(_starts):x}{SUFFIX}")

    return start


@pytest.fixture
def unshared() -> Iterator[None]:
    """Restores the class of values that the other tests use."""
    before = values.ValueClass
    yield
    values.ValueClass = before
