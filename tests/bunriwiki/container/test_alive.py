from __future__ import annotations

from pathlib import Path

from bunriwiki.container.alive import MAX_AGE_SECONDS, is_alive


def test_a_file_that_was_written_lately_is_a_sign_of_life(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert not is_alive(path, 0)
    path.touch()
    written = path.stat().st_mtime
    assert is_alive(path, written + MAX_AGE_SECONDS - 1)
    assert not is_alive(path, written + MAX_AGE_SECONDS + 1)
