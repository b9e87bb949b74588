from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator

import pytest
from loguru import logger

from bunriwiki.telemetry import logs

LINE = re.compile(
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}\] - \[(?P<host>[^:\]]+):(?P<ip>[\d.]+)\]"
    r" \| \[(?P<level>\w+)\] \| \[(?P<message>.*)\]"
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.root.handlers, logging.root.level
    yield
    logging.root.handlers, logging.root.level = handlers, level
    logger.remove()


def parsed(text: str) -> re.Match[str]:
    match = LINE.fullmatch(text.strip().splitlines()[0])
    assert match is not None, text
    return match


def test_the_format_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logger.info("hello {}", "there")
    line = parsed(capsys.readouterr().out)
    assert line["host"] == socket.gethostname()
    assert (line["level"], line["message"]) == ("INFO", "hello there")


@pytest.mark.parametrize("name", ["bentoml.serve", "circus", "uvicorn.error", "anything.else"])
def test_records_of_other_loggers_are_shown(capsys: pytest.CaptureFixture[str], name: str) -> None:
    logs.configure("INFO")
    logging.getLogger(name).warning("100%% of {%s}", "it")
    assert parsed(capsys.readouterr().out)["message"] == "100% of {it}"


def test_records_below_the_level_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    logger.info("no")
    logging.getLogger("bentoml").info("no")
    assert capsys.readouterr().out == ""


def test_a_traceback_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    payload = "a secret text"
    try:
        raise ValueError(len(payload)) from None
    except ValueError:
        logger.exception("failed")
    out = capsys.readouterr().out
    assert "raise ValueError(len(payload))" in out
    assert payload not in out
