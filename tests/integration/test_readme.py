"""Every command of the READMEs and of docs/api.md, run, and its answer compared with the one in the text."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import Any

import pytest

from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.server import Server

PORT = "127.0.0.1:3000"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(name: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def shape(value: Any) -> Any:
    """A JSON value without its numbers."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize(("name", "expected_calls"), [("README.md", 4), ("README.ko.md", 4), ("docs/api.md", 1)])
def test_each_curl_gets_the_answer_below_it(server: Server, name: str, expected_calls: int) -> None:
    found = blocks(name)
    calls = [position for position, (_, text) in enumerate(found) if text.startswith("curl ")]
    assert len(calls) == expected_calls
    for position in calls:
        command = shlex.split(found[position][1].replace(PORT, f"127.0.0.1:{server.port}"))
        answer = subprocess.run([command[0], "-sS", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
        kind, expected = found[position + 1]
        assert kind == "json"
        assert shape(json.loads(answer.stdout)) == shape(json.loads(expected))


def test_the_python_example_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [text for kind, text in blocks("README.md") if kind == "python"]
    exec(compile(code.replace(PORT, f"127.0.0.1:{server.port}"), "README.md", "exec"), {})  # noqa: S102
    assert "긍정" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_two_commands_are_targets(name: str) -> None:
    [commands] = [text.split("\n") for _, text in blocks(name) if text.startswith("make ")]
    for command in filter(None, commands):
        subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, check=True)
