"""What the documentation says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from bunriwiki.settings import PREFIX, Settings
from bunriwiki.testing.paths import ROOT
from model_sync.settings import SyncSettings


def rows(document: str) -> list[list[str]]:
    """The cells of every table row of a Markdown document, but for headers."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in found if not row[0].startswith("---") and row[0] not in {"package", "variable", "setting"}]


def test_every_setting_is_in_the_table_with_its_default_and_meaning() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("settings.md")}
    for name, field in {**Settings.model_fields, **SyncSettings.model_fields}.items():
        default, meaning = table.pop(str(field.validation_alias or PREFIX + name.upper()))
        assert meaning == field.description
        stated = "" if field.default is None else str(field.default).replace(f"{ROOT}/", "").replace(str(Path.home()), "~")
        assert default.strip("`/") == stated
    assert {row for row in table if " " not in row} == set()


def test_every_direct_dependency_has_its_reason() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    declared = {
        (Requirement(dependency).name, group)
        for group, named in groups.items()
        for dependency in named
        if isinstance(dependency, str)
    }
    stated = {(row[0], group) for row in rows("dependencies.md") for group in row[1].split(", ")}
    assert stated == declared


def test_links_lead_somewhere() -> None:
    documents = [
        path
        for path in ROOT.rglob("*.md")
        if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
    ]
    for document in documents:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
