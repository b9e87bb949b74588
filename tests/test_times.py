from __future__ import annotations

from pathlib import Path

import pytest

from bunriwiki.testing.paths import ROOT
from tests.times import AREAS, INTEGRATION, area, main

REPORT = """<testsuites><testsuite time="{seconds}">
<testcase classname="tests.{module}" name="test_one" time="60.5"/>
<testcase classname="tests.{module}.TestClass" name="test_two" time="5.5"/>
<testcase classname="tests.test_short" name="test_three" time="0.1"/>
</testsuite></testsuites>"""


def test_the_minutes_are_added_up_and_sorted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unit.xml").write_text(REPORT.format(seconds=42, module="model_sync.test_reconciler"))
    (tmp_path / "alone.xml").write_text(REPORT.format(seconds=90, module="integration.test_swaps"))
    main(tmp_path)
    tables = [table.splitlines()[2:] for table in capsys.readouterr().out.strip().split("\n\n")]
    assert tables == [
        ["| alone | 1.5 |", "| unit | 0.7 |"],
        ["| unit: model_sync | 1.1 |", "| hot swaps, crashes and restarts | 1.1 |"],
        ["| tests.model_sync.test_reconciler | 1.1 |", "| tests.integration.test_swaps | 1.1 |"],
    ]


def test_every_integration_test_has_an_area() -> None:
    folder = ROOT / "tests" / "integration"
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("test_*.py")]
    modules = [f"{INTEGRATION}{'.'.join(path.parts)}" for path in files]
    assert {area(module) for module in modules} == set(AREAS)
