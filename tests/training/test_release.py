from __future__ import annotations

from pathlib import Path

import pytest

from training.release import SHIPS, evenly


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 3]), (3, [0, 2, 4]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])])
def test_spreads_evenly(count: int, expected: list[int]) -> None:
    assert evenly(range(6), count) == expected


@pytest.mark.parametrize("name", SHIPS)
def test_what_was_not_made_cannot_be_shipped(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make it first"):
        SHIPS[name](tmp_path, tmp_path / "nothing", tmp_path / "output", "v1")
