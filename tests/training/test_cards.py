from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.artifacts.manifest import MODELS as NAMES
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.testing.paths import MODELS
from training import cards
from training.cards import Report

REPORT = Report({"accuracy": "0.500"}, cards.table(["true, answered", "a"], [["**a**", 1]]), "")


def test_a_section_is_written_and_read(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# A model\n\n{cards.BEGIN}\nold\n{cards.END}\n\nMore.\n", encoding="utf-8")
    cards.write(card, REPORT.section())
    assert cards.read(card) == REPORT.section()
    assert card.read_text(encoding="utf-8") == f"# A model\n\n{REPORT.section()}\n\nMore.\n"
    assert "| accuracy | 0.500 |" in cards.read(card)


def test_a_card_without_a_place(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for figures"):
        cards.write(card, REPORT.section())


@pytest.mark.parametrize("name", NAMES)
def test_every_bundled_model_has_a_card_with_figures(name: str) -> None:
    card = MODELS / name / "README.md"
    assert cards.read(card).count("|") > 20
    assert card.read_text(encoding="utf-8").startswith(f"# {name}, version {Manifest.read(MODELS / name).version}\n")
