from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from bunriwiki.ipc.trace import TraceContext, current_trace
from bunriwiki.settings import LogChoices
from bunriwiki.telemetry import logs

LINE = re.compile(
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}\] - \[(?P<host>[^:\]]+):(?P<ip>[\d.]+)\]"
    r" \| \[(?P<level>\w+)\] \| \[(?P<message>.*)\]"
)


Configure = Callable[..., None]
TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """Configures logging as a worker of `role` does, with these choices besides."""
    handlers, root_level = logging.root.handlers, logging.root.level
    levels = []

    def configure(level: str = "INFO", role: str = "gateway", **choices: Any) -> None:
        levels.append(logs.configure(LogChoices(role, level, tmp_path / "log_level", **choices)))

    yield configure
    for level in levels:
        level.stop()
    logging.root.handlers, logging.root.level = handlers, root_level
    logger.remove()


@pytest.fixture
def traced() -> Iterator[None]:
    token = current_trace.set(TRACE)
    yield
    current_trace.reset(token)


def parsed(text: str) -> re.Match[str]:
    match = LINE.fullmatch(text.strip().splitlines()[0])
    assert match is not None, text
    return match


def test_the_format_of_a_line(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO")
    logger.info("hello {}", "there")
    line = parsed(capsys.readouterr().out)
    assert line["host"] == socket.gethostname()
    assert (line["level"], line["message"]) == ("INFO", "hello there")


@pytest.mark.parametrize("name", ["bentoml.serve", "circus", "uvicorn.error", "anything.else"])
def test_records_of_other_loggers_are_shown(configure: Configure, capsys: pytest.CaptureFixture[str], name: str) -> None:
    configure("INFO")
    logging.getLogger(name).warning("100%% of {%s}", "it")
    assert parsed(capsys.readouterr().out)["message"] == "100% of {it}"


def test_records_below_the_level_are_not_shown(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure("WARNING")
    logger.info("no")
    logging.getLogger("bentoml").info("no")
    assert capsys.readouterr().out == ""


def test_a_traceback_shows_no_values(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO")
    payload = "a secret text"
    try:
        raise ValueError(len(payload)) from None
    except ValueError:
        logger.exception("failed")
    out = capsys.readouterr().out
    assert "raise ValueError(len(payload))" in out
    assert payload not in out


def test_a_line_of_a_traced_request_ends_with_the_trace(
    configure: Configure, capsys: pytest.CaptureFixture[str], traced: None
) -> None:
    configure()
    logger.info("hello")
    assert parsed(capsys.readouterr().out)["message"] == f"hello | trace {TRACE.trace_id}"


def test_json_has_the_fields_of_opentelemetry(configure: Configure, capsys: pytest.CaptureFixture[str], traced: None) -> None:
    configure(json=True)
    logger.warning("{} is {{not}} a format\nof two lines", "{this}")
    [line] = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    # https://opentelemetry.io/docs/specs/otel/logs/data-model/#log-and-event-record-definition
    assert found.keys() == {
        "Timestamp", "ObservedTimestamp", "TraceId", "SpanId", "TraceFlags", "SeverityText", "SeverityNumber", "Body",
        "Resource", "InstrumentationScope", "Attributes",
    }  # fmt: skip
    assert (found["SeverityText"], found["SeverityNumber"]) == ("WARNING", 13)
    assert found["Body"] == "{this} is {not} a format\nof two lines"
    assert (found["TraceId"], found["SpanId"], found["TraceFlags"]) == (TRACE.trace_id, TRACE.span_id, 1)
    assert found["Attributes"]["code.function.name"] == "test_json_has_the_fields_of_opentelemetry"
    assert found["Resource"]["service.name"] == "bunriwiki"
    assert 0 <= int(found["ObservedTimestamp"]) - int(found["Timestamp"]) < 10**10


def test_json_has_the_traceback_without_values(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=True)
    payload = "a secret text"
    try:
        raise ValueError(len(payload)) from None
    except ValueError:
        logger.exception("failed")
    [line] = capsys.readouterr().out.splitlines()
    attributes = json.loads(line)["Attributes"]
    assert (attributes["exception.type"], attributes["exception.message"]) == ("ValueError", "13")
    assert "raise ValueError(len(payload))" in attributes["exception.stacktrace"]
    assert payload not in line
    assert "TraceId" not in json.loads(line)


def test_lines_go_to_the_file_as_well(configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    configure(folder=tmp_path / "logs")
    logger.info("hello")
    logging.getLogger("uvicorn.error").error("온도")
    assert (tmp_path / "logs" / "logfile.log").read_text(encoding="utf-8") == capsys.readouterr().out


def test_a_folder_that_cannot_be_written_does_not_stop_the_process(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "logs").touch()
    configure(folder=tmp_path / "logs")
    logger.info("hello")
    error, hello = capsys.readouterr().out.splitlines()
    assert "standard output only" in error
    assert "hello" in hello
