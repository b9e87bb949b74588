"""A command whose process dies at any step took effect or did not: every step is tried."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.paths import ROOT
from tests.model_sync.admin.dying import CASES, DIED

NOTHING: dict[str, Any] = {"serving": "v1", "held": [], "paused": None, "cancelled": None, "preparing": False}
EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # by command: what was before it, and what it changes
    "rollback": ({}, {"serving": "fallback", "held": ["v1"]}),
    "pause": ({}, {"paused": "v2"}),
    "resume": ({"paused": "v2"}, {"paused": None}),
    "abort": ({"paused": "v2"}, {"paused": None, "held": ["v2"]}),
    "promote": ({"paused": "v2"}, {"paused": None, "serving": "v2"}),
    "cancel": ({}, {"cancelled": "d3"}),
}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the processes left, in the order of commands and steps."""
    root = tmp_path_factory.mktemp("dying")
    with open_writer(root / "store", "a test") as writer:
        for version in ("v1", "v2"):
            writer.layout.version("yolo", version).mkdir(parents=True)
        promote(writer, "yolo", "v1", "a test", "poll")
    command = [sys.executable, "-m", "tests.model_sync.admin.dying", str(root / "store"), str(root / "copies")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("command", CASES)
def test_it_took_effect_or_did_not(left: list[dict[str, Any]], command: str) -> None:
    before, changes = EFFECTS[command]
    undone, done = NOTHING | before, NOTHING | before | changes
    steps = [step for step in left if step["command"] == command]
    assert [step["code"] for step in steps] == [DIED] * (len(steps) - 1) + [0]
    states = [{name: step[name] for name in NOTHING} for step in steps]
    assert all(state in (undone, done) for state in states), states
    effective = [state == done for state in states]
    assert effective == sorted(effective)  # what took effect is not undone by a later step
    assert (effective[0], effective[-1]) == (False, True)
    assert len(steps) >= 4
