from __future__ import annotations

from pathlib import Path

import pytest

from training.arguments import claim, needed


def test_a_missing_path_is_in_the_error(tmp_path: Path) -> None:
    assert needed(tmp_path) == tmp_path
    with pytest.raises(SystemExit, match=r"nothing does not exist: see training/README\.md"):
        needed(tmp_path / "nothing")


def test_a_run_is_resumed_with_the_same_settings_only(tmp_path: Path) -> None:
    output = tmp_path / "run"
    claim(output, seed=0, epochs=3)
    claim(output, seed=0, epochs=3)
    with pytest.raises(SystemExit, match="other settings"):
        claim(output, seed=1, epochs=3)
