from __future__ import annotations

from pathlib import Path

import pytest

from training.release import RELEASES


@pytest.mark.parametrize("name", RELEASES)
def test_a_model_that_was_not_trained_cannot_be_released(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run `make train` first"):
        RELEASES[name](tmp_path, tmp_path / "nothing", tmp_path / "output", "v1")
