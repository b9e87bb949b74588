"""The figures of an evaluation, and their place in a model card: `models/<name>/README.md`, between two marks."""

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
    """The figures, the confusion matrix as a table, and the slowest and worst examples in Markdown, which no card shows."""

    figures: Mapping[str, str]
    confusion: str
    examples: str

    def section(self) -> str:
        """The text between the marks, including them."""
        return f"{BEGIN}\n\n{table(['measure', 'value'], list(self.figures.items()))}\n\n{self.confusion}\n\n{END}"


def read(card: Path) -> str:
    """The card's section, including the marks. Raises ValueError if the card has no marks."""
    return _cut(card)[1]


def write(card: Path, text: str) -> None:
    """Replace the card's section by `text`. Raises ValueError if the card has no marks."""
    before, _, after = _cut(card)
    card.write_text(before + text + after, encoding="utf-8")


def _cut(card: Path) -> tuple[str, str, str]:
    text = card.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{card} has no place for figures: add\n{BEGIN}\n{END}\nto it")
    start, end = text.index(BEGIN), text.index(END) + len(END)
    return text[:start], text[start:end], text[end:]
