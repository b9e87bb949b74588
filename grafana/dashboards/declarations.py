"""What a dashboard consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# The unit of the values, by Grafana's identifiers.
Unit = Literal["short", "none", "percentunit", "s", "bytes", "reqps", "ops", "bool_on_off", "dateTimeFromNow"]
Colour = Literal["green", "orange", "red", "blue"]
Name = Literal["overview", "models", "imports", "workers", "drift"]


@dataclass(frozen=True, slots=True)
class Text:
    """The same in English and in Korean."""

    english: str
    korean: str


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression. `legend` is the name of a series; `{{label}}` is replaced by the label's value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    `steps` are thresholds: from each value on, its colour. `empty` says why the panel may have no data; None if it never
    is while service and sidecar are scraped. `runbooks` are the alerts about what it shows, and `see` the dashboards that show
    more. The kind `name` shows the names of the series and not their values. `width` is a part of 24.
    """

    title: str
    about: Text
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["graph", "stat", "name"] = "graph"
    steps: tuple[tuple[float, Colour], ...] = ()
    start: Colour = "green"
    minimum: float | None = 0
    maximum: float | None = None
    stacked: bool = False
    empty: Text | None = None
    runbooks: tuple[str, ...] = ()
    see: tuple[Name, ...] = ()
    width: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable whose values are those of `label` in the series of `selector`. The first variables restrict the later ones."""

    name: str
    about: Text
    selector: str
    label: str
    multi: bool = True


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard."""

    name: Name
    title: str
    about: Text
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]

    @property
    def uid(self) -> str:
        return f"bunriwiki-{self.name}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)
