"""The rules, with Prometheus' own tools. `prometheus/tests/` has the tests of each alert, for `promtool test rules`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.programs import program

FOLDER = ROOT / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
SECTIONS = ["## What it means", "## How to see it", "## What to do"]

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def run(name: str, *arguments: str | Path) -> None:
    done = subprocess.run([program(name), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_are_valid(path: Path) -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)


def test_the_configuration_is_valid() -> None:
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    for path in FOLDER.glob("alertmanager*.yml"):
        run("amtool", "check-config", path)


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_the_alerts_fire_and_stay_quiet(path: Path) -> None:
    run("promtool", "test", "rules", path)


def test_every_alert_is_tested_firing_and_quiet() -> None:
    fire: set[str] = set()
    quiet: set[str] = set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                (fire if check["exp_alerts"] else quiet).add(check["alertname"])
    assert (fire, quiet) == (set(ALERTS), set(ALERTS))


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.docs }}}}/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## .*", page, flags=re.MULTILINE) == SECTIONS
    assert "```sh\n" in page


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
