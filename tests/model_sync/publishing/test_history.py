from __future__ import annotations

from pathlib import Path

import pytest

from model_sync.errors import PublishError
from model_sync.publishing import history
from model_sync.publishing.history import find_history


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"events")


def test_event_files_are_found_in_a_folder(tmp_path: Path) -> None:
    write(
        tmp_path, "built/history/events.out.tfevents.1.host", "built/history/eval/events.out.tfevents.2", "built/history/a.txt"
    )
    write(tmp_path, "history/events.out.tfevents.3")
    assert list(find_history(tmp_path / "built")) == ["eval/events.out.tfevents.2", "events.out.tfevents.1.host"]


@pytest.mark.parametrize("name", ["best.pt", "pyfunc/MLmodel"])
def test_event_files_are_found_beside_a_file_or_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "history/events.out.tfevents.3")
    path = tmp_path / Path(name).parts[0]
    assert find_history(path) == {"events.out.tfevents.3": tmp_path / "history" / "events.out.tfevents.3"}


def test_a_version_may_have_no_history(tmp_path: Path) -> None:
    write(tmp_path, "best.pt", "events.out.tfevents.1")
    assert find_history(tmp_path / "best.pt") == find_history(tmp_path / "nothing") == {}


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES"])
def test_a_large_history_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    write(tmp_path, "history/tfevents.1", "history/tfevents.2")
    assert len(find_history(tmp_path)) == 2
    monkeypatch.setattr(history, limit, 1)
    with pytest.raises(PublishError, match=r"The training history in .* has 2 files") as caught:
        find_history(tmp_path)
    assert caught.value.kind == "rejected"
