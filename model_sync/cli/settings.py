"""Settings, read so that an invalid one ends a command with its exit code, and whether a URL is on this machine."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings

from bunriwiki.settings import read
from model_sync.cli.exits import CliError, Exit

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read_settings(kind: type[SettingsT]) -> SettingsT:
    """The settings. Raises CliError if a setting is invalid."""
    try:
        return read(kind)
    except SystemExit as error:
        raise CliError(Exit.USAGE, str(error.code)) from error


def is_here(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
