from __future__ import annotations

from pathlib import Path

import pytest

from training.release import RELEASES, evenly


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 3]), (3, [0, 2, 4]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])])
def test_spreads_evenly(count: int, expected: list[int]) -> None:
    assert evenly(range(6), count) == expected


@pytest.mark.parametrize("name", RELEASES)
def test_a_model_that_was_not_trained_cannot_be_released(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run `make train` first"):
        RELEASES[name](tmp_path, tmp_path / "nothing", tmp_path / "output", "v1")
