"""The tables of docs/metrics.md, to compare them with a scrape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from bunriwiki.testing.paths import ROOT


def check_metrics_table(heading: str, families: Iterable[Metric], sizes: Mapping[str, int]) -> None:
    """Raises AssertionError unless the tables below a heading of the second level have exactly these metrics.

    Types and labels must be the same (without series a metric has no labels to compare). There must be no more series than the
    table allows for `sizes`, which has the value of each letter.
    """
    rows = _rows(heading)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, (kind, labels, _) in rows.items()}
    scraped = {}
    for family in families:
        series = {frozenset(pair for pair in sample.labels.items() if pair[0] != "le") for sample in family.samples}
        labels = {label for each in series for label, _ in each}
        scraped[family.name] = family.type, labels if series else documented[family.name][1]
        products = [
            [sizes.get(factor) or int(factor) for factor in term.split(" · ")] for term in rows[family.name][2].split(" + ")
        ]
        assert len(series) <= sum(map(math.prod, products)), family.name
    assert scraped == documented


def _rows(heading: str) -> dict[str, tuple[str, str, str]]:
    """Type, labels and the largest number of series of each metric, by the name of its family."""
    _, _, section = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    found = {}
    for line in section.partition("\n## ")[0].splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"`\w+`", name):
            kind, labels, most, _ = cells
            found[name.strip("`").removesuffix("_total")] = kind, labels, most
    return found
