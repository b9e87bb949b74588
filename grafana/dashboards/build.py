"""Turns the declarations into Grafana's JSON, with Grafana's own builders."""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

from grafana.dashboards.declarations import Dashboard, Name, Panel, Text, Variable

SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
DOCS = "https://git.example.org/bunriwiki/docs"  # as in prometheus/prometheus.yml
TAG = "bunriwiki"
HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Event:
    """Marks in every graph where `expr` has a value; `title` may use its labels."""

    name: str
    colour: str
    title: str
    expr: str


# The counters are read from the store's history, so a restart of the sidecar marks nothing.
EVENTS = (
    Event(
        "Promotions",
        "green",
        "{{model}}: promoted ({{by}})",
        'increase(bunriwiki_promotions_total{model=~"$model", by!="monitor"}[$__rate_interval]) > 0',
    ),
    Event(
        "Rollbacks",
        "red",
        "{{model}}: rolled back ({{reason}})",
        'increase(bunriwiki_rollbacks_total{model=~"$model"}[$__rate_interval]) > 0',
    ),
)


def to_json(dashboard: Dashboard) -> str:
    """The dashboard as Grafana's JSON."""
    builder = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(both(dashboard.about))
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Bunriwiki")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(
            builders.DatasourceVariable("datasource")
            .label("Prometheus")
            .type("prometheus")
            .current(models.VariableOption(text="Prometheus", value="prometheus"))
        )
    )
    for variable in dashboard.variables:
        builder.with_variable(_variable(variable))
    builder.with_variable(
        builders.TextBoxVariable("docs").label("Docs").description("Where docs/ is published.").default_value(DOCS)
    )
    for event in EVENTS:
        builder.annotation(
            builders.AnnotationQuery()
            .name(event.name)
            .datasource(SOURCE)
            .enable(True)
            .icon_color(event.colour)
            .expr(event.expr)
        )
    number = 0
    for row in dashboard.rows:
        number += 1
        builder.with_row(builders.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            builder.with_panel(_panel(panel).id(number))
    found = json.loads(JSONEncoder().encode(builder.build()))
    for annotation, event in zip(found["annotations"]["list"], EVENTS, strict=True):
        annotation["titleFormat"] = event.title  # of the Prometheus data source, which the builder does not know
    for variable in found["templating"]["list"]:
        for field in ("auto", "auto_count", "auto_min"):  # of intervals; the builder adds them to every kind of variable
            variable.pop(field, None)
    return json.dumps(found, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def both(text: Text) -> str:
    """Both languages as Markdown."""
    return f"{text.english}\n\n{text.korean}"


def description(panel: Panel) -> str:
    """What a panel shows, and why it may be empty."""
    return both(panel.about) + (f"\n\n{both(panel.empty)}" if panel.empty else "")


def _variable(variable: Variable) -> builders.QueryVariable:
    return (
        builders.QueryVariable(variable.name)
        .label(variable.name.capitalize())
        .description(both(variable.about))
        .datasource(SOURCE)
        .query(f"label_values({variable.selector}, {variable.label})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(variable.multi)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel:
    built = _graph(panel) if panel.kind == "graph" else _stat(panel)
    built.title(panel.title).description(description(panel)).datasource(SOURCE).unit(panel.unit)
    built.span(panel.width).height(HEIGHT).thresholds(_thresholds(panel)).links(_links(panel))
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend).datasource(SOURCE)
        built.with_target(target.range() if panel.kind == "graph" else target.instant())
    if panel.minimum is not None:
        built.min(panel.minimum)
    if panel.maximum is not None:
        built.max(panel.maximum)
    return built


def _graph(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(10)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    )
    if panel.unit in {"short", "reqps", "ops"}:
        built.axis_soft_max(1)  # otherwise the axis of a series of zeros goes to 100
    if panel.unit == "bool_on_off":
        built.line_interpolation(options.LineInterpolation.STEP_AFTER).fill_opacity(0)
    if panel.steps:
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    return built


def _stat(panel: Panel) -> stat.Panel:
    shows = options.BigValueTextMode.NAME if panel.kind == "name" else options.BigValueTextMode.VALUE_AND_NAME
    built = stat.Panel() if panel.unit != "short" else stat.Panel().decimals(0)  # `increase` estimates
    return (
        built.text_mode(shows)
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=panel.start)]
    steps += [models.Threshold(value=value, color=colour) for value, colour in panel.steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _links(panel: Panel) -> list[Builder[models.DashboardLink]]:
    runbooks = [_link(f"Runbook: {name}", f"${{docs}}/runbooks/{name}.md").target_blank(True) for name in panel.runbooks]
    return [*runbooks, *(_link(f"Dashboard: {name.capitalize()}", _path(name)) for name in panel.see)]


def _link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url)


def _path(name: Name) -> str:
    return f"/d/bunriwiki-{name}?${{__url_time_range}}&${{__all_variables}}"
