from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from bunriwiki.telemetry import log_level
from bunriwiki.telemetry.log_level import LogLevel
from bunriwiki.testing.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log_level"


@pytest.fixture
def level(path: Path) -> LogLevel:
    return LogLevel("INFO", path)


@pytest.fixture
def lines(level: LogLevel) -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(message.rstrip()), level=0, filter=level.admits, format="{level} {message}")
    yield found
    logger.remove(sink)


def test_the_level_follows_the_file_and_returns_to_the_setting(path: Path, level: LogLevel, lines: list[str]) -> None:
    level.look()
    logger.debug("no")
    path.write_text("DEBUG\n")
    level.look()
    logger.debug("yes")
    path.write_text("ERROR\n")
    level.look()
    logger.warning("no")
    path.unlink()
    level.look()
    logger.info("yes")
    assert lines == [
        "DEBUG the log level is now DEBUG", "DEBUG yes", "ERROR the log level is now ERROR", "INFO the log level is now INFO",
        "INFO yes",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["debug", "VERBOSE", "DEBUG" * 100, "\xff"])
def test_a_file_with_anything_else_is_ignored_and_logged_once(
    path: Path, level: LogLevel, lines: list[str], content: str
) -> None:
    path.write_text(content, encoding="latin-1")
    level.look()
    level.look()
    assert level.name == "INFO"
    assert len(lines) == 1
    assert "must be one of TRACE, DEBUG" in lines[0]


def test_the_file_is_followed(path: Path, level: LogLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_level, "EVERY", 0.001)
    level.follow()
    try:
        path.write_text("TRACE")
        wait_until(lambda: level.name == "TRACE")
    finally:
        level.stop()
