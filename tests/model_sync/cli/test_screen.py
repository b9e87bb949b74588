from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from bunriwiki.model_store.sync_state import ModelSync, SyncState
from model_sync.cli.screen import Screen, plain
from model_sync.cli.words import Words

STATE = SyncState(since=datetime.now(UTC), models={"yolo": ModelSync(source="s", phase="fetch", phase_share=0.5)})
Capture = pytest.CaptureFixture[str]


def show_progress(*, as_json: bool) -> None:
    screen = Screen(Words("en"), as_json=as_json)
    with screen.sync_progress() as show_state:
        show_state(STATE)
    with screen.transfer_progress() as show_transfer:
        show_transfer("upload", 1_000_000, 2_000_000)


def test_a_terminal_has_progress_bars(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    show_progress(as_json=False)
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("yolo", "fetch", "uploading", "1.0/2.0 MB"))


def test_programs_and_files_have_no_progress_bars(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    show_progress(as_json=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_progress(as_json=True)
    assert capsys.readouterr().out.strip() == ""


def test_json_is_one_document_without_escapes(capsys: Capture) -> None:
    Screen(Words("en"), as_json=True).json({"reason": "느림"})
    shown = capsys.readouterr().out
    assert "느림" in shown
    assert json.loads(shown) == {"reason": "느림"}


def test_a_long_reason_is_complete_in_a_file(capsys: Capture) -> None:
    Screen(Words("en"), as_json=False).table(("model", "reason"), [("yolo", "word " * 100 + "end")])
    assert capsys.readouterr().out.split().count("word") == 100


def test_control_characters_are_replaced() -> None:
    assert plain("a\x1b[2Jb\r\x07\u202e다\n") == "a�[2Jb���다\n"
