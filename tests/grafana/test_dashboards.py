"""The dashboards as they are declared, and the JSON that is provisioned."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.programs import program
from grafana.dashboards import DASHBOARDS
from grafana.dashboards.__main__ import FOLDER
from grafana.dashboards.build import to_json
from grafana.dashboards.declarations import Dashboard, Panel

SCHEMA = Path(__file__).parent / "schema"
HANGUL = re.compile(r"[가-힣]")
PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels]
each_panel = pytest.mark.parametrize(
    ("dashboard", "panel"), PANELS, ids=[f"{dashboard.name}: {panel.title}" for dashboard, panel in PANELS]
)


def test_the_json_is_what_the_generator_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*")}
    assert written == {f"{dashboard.uid}.json": to_json(dashboard) for dashboard in DASHBOARDS}, "run `make dashboards`"


@each_panel
def test_every_panel_is_described_in_english_and_korean(dashboard: Dashboard, panel: Panel) -> None:
    texts = [panel.about, *([panel.empty] if panel.empty else [])]
    assert all(HANGUL.search(text.korean) and not HANGUL.search(text.english) for text in texts)
    described = [found for found in json.loads(to_json(dashboard))["panels"] if found["title"] == panel.title]
    assert all(text.korean in found["description"] for found in described for text in texts)


@each_panel
def test_no_query_hides_that_data_is_missing(dashboard: Dashboard, panel: Panel) -> None:
    assert panel.queries
    assert not any(re.search(r"\bvector\(|\babsent", query.expr) for query in panel.queries)


@each_panel
def test_the_links_lead_somewhere(dashboard: Dashboard, panel: Panel) -> None:
    for name in panel.runbooks:
        assert (ROOT / "docs" / "runbooks" / f"{name}.md").exists()
    assert set(panel.see) <= {other.name for other in DASHBOARDS} - {dashboard.name}


def test_every_alert_is_linked_from_a_panel() -> None:
    linked = {name for _, panel in PANELS for name in panel.runbooks}
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("Bunriwiki*.md")} == linked


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_variable_is_used_and_defined(dashboard: Dashboard) -> None:
    text = " ".join(query.expr for panel in dashboard.panels for query in panel.queries)
    used = set(re.findall(r"\$([a-z]+)", text))
    assert used == {variable.name for variable in dashboard.variables}


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tsc` and `@grafana/schema`, as their lock has them."""
    folder = tmp_path_factory.mktemp("schema")
    for path in SCHEMA.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    install: list[str | Path] = [program("npm"), "ci", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    return folder


def check_types(folder: Path, dashboards: list[dict[str, Any]]) -> str:
    """The complaints of `tsc` about the dashboards, and nothing else."""
    for path in folder.glob("dashboard*.ts"):
        path.unlink()
    for number, dashboard in enumerate(dashboards):
        (folder / f"dashboard{number}.ts").write_text(as_typescript(dashboard), encoding="utf-8")
    done = subprocess.run(
        [folder / "node_modules" / ".bin" / "tsc", "--project", folder], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (done.stdout == "")
    return done.stdout


def as_typescript(dashboard: dict[str, Any]) -> str:
    """The dashboard as literals: the options of each panel and its queries have types of their own."""
    lines = ['import type { AnnotationQuery, Board, Prometheus, Stat, TimeSeries } from "./types";']
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for number, panel in enumerate(panels):
        kind = {"stat": "Stat", "timeseries": "TimeSeries"}[panel["type"]]
        lines.append(f"export const panel{number}: {kind} = {json.dumps(panel)};")
        lines += [
            f"export const query{number}{target['refId']}: Prometheus = {json.dumps(target)};" for target in panel["targets"]
        ]
    annotations = dashboard["annotations"]["list"]
    lines += [
        f"export const annotation{number}: AnnotationQuery = {json.dumps(annotation)};"
        for number, annotation in enumerate(annotations)
    ]
    rest = {**dashboard, "annotations": {"list": []}, "panels": []}
    return "\n".join([*lines, f"export const board: Board = {json.dumps(rest)};", ""])


@pytest.mark.slow
def test_the_json_has_the_types_of_grafanas_schema(checker: Path) -> None:
    assert check_types(checker, [json.loads(to_json(dashboard)) for dashboard in DASHBOARDS]) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("fieldConfig", "defaults", "unit"), 5),
        (("fieldConfig", "defaults", "thresholds", "mode"), "sometimes"),
        (("options", "legend", "placement"), "above"),
        (("gridPos", "width"), 5),
        (("targets", 0, "expression"), "up"),
    ],
)
def test_a_panel_of_other_types_is_noticed(checker: Path, place: tuple[str | int, ...], wrong: object) -> None:
    dashboard = json.loads(to_json(DASHBOARDS[0]))
    found = next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries")
    for key in place[:-1]:
        found = found[key]
    found[place[-1]] = wrong
    assert "error TS" in check_types(checker, [dashboard])
