from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.test_history import read_history
from training.history import History
from training.sentiment import begin_history

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of transformers, torch and tensorboard


def test_the_history_begins_with_that_of_the_bert(tmp_path: Path) -> None:
    with History(tmp_path / "pretrained") as history:
        history.add({"train/loss": 1.0}, 7)
    for accuracy in (0.5, 0.75):  # the second run replaces the first
        with begin_history(tmp_path / "pretrained", tmp_path / "sentiment") as history:
            history.add({"test/accuracy": accuracy}, 0)
    assert read_history(tmp_path / "sentiment") == {"train/loss": [(7, 1.0)], "test/accuracy": [(0, 0.75)]}


def test_a_bert_without_a_history(tmp_path: Path) -> None:
    begin_history(tmp_path / "pretrained", tmp_path / "sentiment").close()
    assert read_history(tmp_path / "sentiment") == {}
