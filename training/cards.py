"""What a judge found, and the place for it in a model card: `models/<name>/README.md`, between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN = "<!-- figures: written by `make evaluate CARDS=write` -->"
END = "<!-- end of figures -->"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Report:
    """The figures, the confusion matrix as a table, and the slowest and wrongest examples in Markdown, which no card shows."""

    figures: Mapping[str, str]
    confusion: str
    examples: str

    def section(self) -> str:
        """What stands between the marks, marks included."""
        return f"{BEGIN}\n\n{table(['measure', 'value'], list(self.figures.items()))}\n\n{self.confusion}\n\n{END}"


def read(card: Path) -> str:
    """The card's section, marks included. Raises ValueError when it has none."""
    return _cut(card)[1]


def write(card: Path, text: str) -> None:
    """Put the section `text` in the place of the card's."""
    before, _, after = _cut(card)
    card.write_text(before + text + after, encoding="utf-8")


def _cut(card: Path) -> tuple[str, str, str]:
    text = card.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{card} has no place for figures: put\n{BEGIN}\n{END}\ninto it")
    start, end = text.index(BEGIN), text.index(END) + len(END)
    return text[:start], text[start:end], text[end:]
