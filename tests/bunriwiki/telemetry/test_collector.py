from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from bunriwiki.telemetry.collector import OLDER, YOUNG, set_up_collector


@pytest.fixture
def restored() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("restored")
def test_existing_objects_are_frozen() -> None:
    before = gc.get_freeze_count()
    set_up_collector()
    assert gc.get_freeze_count() > before + 1000
    assert gc.get_threshold() == (YOUNG, *OLDER)
