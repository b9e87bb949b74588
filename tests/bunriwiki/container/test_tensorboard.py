from __future__ import annotations

import sys
import threading

import pytest

from bunriwiki.container import tensorboard

Calls = list[object]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What would be done after an error in a thread."""
    found: Calls = []
    monkeypatch.setattr("time.sleep", found.append)
    monkeypatch.setattr("os.execv", lambda *command: found.append(command))
    return found


def fail(name: str) -> None:
    """An error in a thread of this name."""
    try:
        raise ConnectionError("S3 does not answer")
    except ConnectionError as error:
        thread = threading.Thread(name=name)
        arguments = threading.ExceptHookArgs((type(error), error, error.__traceback__, thread))
        tensorboard.start_anew_after_an_error(arguments)


@pytest.mark.parametrize("name", ["Reloader", "Reloader 3"])
def test_it_starts_anew_when_a_reader_failed(calls: Calls, capsys: pytest.CaptureFixture[str], name: str) -> None:
    fail(name)
    assert calls == [30.0, (sys.executable, sys.orig_argv)]
    assert "S3 does not answer" in (said := capsys.readouterr().err)
    assert "Trying again in 30 s." in said


def test_an_error_elsewhere_is_only_written(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    fail("a request")
    assert calls == []
    assert "S3 does not answer" in capsys.readouterr().err
