from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from training.history import History

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of torch and tensorboard


def read_history(output: Path) -> dict[str, list[tuple[int, float]]]:
    """The steps and values of each scalar, as TensorBoard reads them."""
    found = EventAccumulator(str(output / "history")).Reload()
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_what_is_written_is_on_disk_at_once(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add({"train/loss": 2.0, "train/learning_rate": 0.5}, 1)
    assert read_history(tmp_path) == {"train/loss": [(1, 2.0)], "train/learning_rate": [(1, 0.5)]}
    history.close()


def test_a_resumed_run_replaces_what_it_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of one second are read in the order of these numbers, as texts: 10 would be before 9. Resumed runs are processes.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    with History(tmp_path) as first:
        for step in (1, 2, 3):
            first.add({"train/loss": 10.0 + step}, step)
    with History(tmp_path, after=1) as second:
        second.add({"train/loss": 22.0}, 2)
    assert read_history(tmp_path) == {"train/loss": [(1, 11.0), (2, 22.0)]}
